//! Reads the text format of Prometheus, strictly.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Scrape {
    /// By name, without the suffixes of histograms.
    kinds: BTreeMap<String, String>,
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Scrape {
    /// Panics at what Prometheus would not take.
    pub(crate) fn read(text: &str) -> Scrape {
        let mut scrape = Scrape { kinds: BTreeMap::new(), samples: Vec::new() };
        for line in text.lines() {
            if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect(line);
                let twice = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert!(twice.is_none(), "{name} has two types");
            } else if !line.starts_with("# HELP ") {
                let (series, value) = line.rsplit_once(' ').expect(line);
                let (name, labels) = match series.split_once('{') {
                    Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').expect(line))),
                    None => (series, BTreeMap::new()),
                };
                let value = value.replace("+Inf", "inf").parse().expect(line);
                scrape.samples.push((name.to_owned(), labels, value));
                assert!(scrape.kinds.contains_key(scrape.base(name)), "{name} has no type");
            }
        }
        scrape
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.kinds.keys().cloned()
    }

    pub(crate) fn kind(&self, name: &str) -> Option<&str> {
        self.kinds.get(name).map(String::as_str)
    }

    /// The labels of all samples of `name`, which are the same for each.
    pub(crate) fn labels(&self, name: &str) -> Option<BTreeSet<&str>> {
        let mut all = self.samples.iter().filter(|sample| self.base(&sample.0) == name).map(|sample| {
            sample.1.keys().map(String::as_str).filter(|label| *label != "le").collect::<BTreeSet<_>>()
        });
        let first = all.next()?;
        assert!(all.all(|labels| labels == first), "{name}: labels differ");
        Some(first)
    }

    /// The bounds of the buckets of the histogram `name` with a space between, without infinity.
    pub(crate) fn bounds(&self, name: &str) -> String {
        let bucket = format!("{name}_bucket");
        let mut buckets = self.samples.iter().filter(|sample| sample.0 == bucket).peekable();
        let Some(first) = buckets.peek() else { return String::new() };
        let mut series = first.1.clone();
        series.remove("le");
        let mut bounds: Vec<&str> = buckets
            .filter(|sample| series.iter().all(|(label, value)| sample.1.get(label) == Some(value)))
            .map(|sample| sample.1["le"].as_str())
            .collect();
        assert_eq!(bounds.pop(), Some("+Inf"), "{name}");
        bounds.join(" ")
    }

    /// The value of a sample as it is written, whatever the order of its labels.
    pub(crate) fn value(&self, series: &str) -> Option<f64> {
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').expect(series))),
            None => (series, BTreeMap::new()),
        };
        let mut found = self.samples.iter().filter(|sample| sample.0 == name && sample.1 == labels);
        let value = found.next()?.2;
        assert!(found.next().is_none(), "{series} is there twice");
        Some(value)
    }

    fn base<'a>(&self, name: &'a str) -> &'a str {
        ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|base| self.kind(base) == Some("histogram"))
            .unwrap_or(name)
    }
}

fn read_labels(text: &str) -> BTreeMap<String, String> {
    // No value that is tested contains a quote or a comma.
    text.split(',')
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (name, value) = label.split_once('=').expect(text);
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(text);
            (name.to_owned(), value.to_owned())
        })
        .collect()
}
