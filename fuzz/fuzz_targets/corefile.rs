//! Text of a Corefile: whatever it is, it is read or refused. What is refused is named with its
//! place; what is read has domains, and makes zone data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_corefile::{Imported, Surroundings, parse};
use portolan_names::Names;

/// Files that import themselves, and a variable with a brace in it.
struct Odd;

impl Surroundings for Odd {
    fn variable(&self, name: &str) -> Option<String> {
        (name == "A").then(|| "{".to_owned())
    }

    fn import(&self, pattern: &str, _from: &str) -> Result<Vec<Imported>, String> {
        match pattern {
            "again" => Ok(vec![Imported { name: "again".to_owned(), text: "import again\nlog".to_owned() }]),
            _ => Err("there is no such file".to_owned()),
        }
    }
}

fuzz_target!(|text: &str| {
    match parse("c", text, 53, &Odd) {
        Ok(corefile) => {
            assert!(!corefile.blocks.is_empty());
            for block in corefile.blocks {
                assert!(!block.zones.is_empty());
                assert!(block.forward.iter().all(|forward| !forward.to.is_empty()));
                if let Some(kubernetes) = block.kubernetes {
                    // The domain of Services may be the root, which zone data can be in too.
                    assert!(Names::new(kubernetes.names, 1).is_ok());
                }
            }
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            assert!(errors.0.iter().all(|error| error.place.line > 0 && !error.message.is_empty()));
        }
    }
});
