//! A change to one file costs what the file holds, however many Services there are.

use std::fs;
use std::time::{Duration, Instant};

use portolan_source::manifests::{Manifests, Options};

/// Ignored by default for its size. To run it:
/// `cargo test --release -p portolan-source --test manifests -- --ignored scale`.
#[test]
#[ignore = "writes 45,000 files"]
fn one_change_among_45_000_services() {
    let folder = tempfile::tempdir().unwrap();
    let place = tempfile::tempdir().unwrap();
    let text = |i: usize, ip: usize| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: s{i}}}\nspec: {{selector: {{app: bench, id: s{i}}}, ports: [{{port: 80}}]}}\n\
             ---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{i}, labels: {{app: bench, id: s{i}}}}}\n\
             status: {{podIP: 10.{}.{}.{}, conditions: [{{type: Ready, status: 'True'}}]}}\n",
            ip / 65536 % 256,
            ip / 256 % 256,
            ip % 256
        )
    };
    for i in 0..45_000 {
        fs::write(folder.path().join(format!("{i}.yaml")), text(i, i)).unwrap();
    }
    let options = Options { ledger: Some(place.path().join("ledger")), ..Options::default() };
    let mut manifests = Manifests::open(folder.path(), options).unwrap();
    let start = Instant::now();
    let update = manifests.load();
    println!("load: {:?}, {} changes", start.elapsed(), update.changes.len());
    assert_eq!(update.changes.len(), 90_000);
    assert!(manifests.problems().is_empty());
    let mut times = Vec::new();
    for i in 0..100 {
        let (file, text) = if i % 2 == 0 {
            (i * 7, text(i * 7, 50_000 + i))
        } else {
            (45_000 + i, text(45_000 + i, 45_000 + i))
        };
        fs::write(folder.path().join(format!("{file}.yaml")), text).unwrap();
        let start = Instant::now();
        let update = manifests.wait(Some(Duration::from_secs(10))).unwrap().unwrap();
        times.push(start.elapsed());
        assert_eq!(update.changes.len(), if i % 2 == 0 { 1 } else { 2 });
    }
    times.sort();
    println!("one file: median {:?}, at most {:?}", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(2), "{times:?}");
}
