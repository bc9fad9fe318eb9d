//! What the kernel of the guest says.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};

/// As many last lines are kept.
const KEPT: usize = 200;

/// Parts of lines that say that something is wrong with the kernel.
const ALARMS: &[&str] = &[
    "BUG:",
    "INFO: rcu",
    "INFO: task",
    "Kernel panic",
    "Oops",
    "Out of memory:",
    "WARNING: CPU:",
    "general protection fault",
    "unregister_netdevice: waiting",
];

/// The last messages of the kernel.
#[derive(Debug, Default)]
pub(crate) struct Console {
    lines: VecDeque<String>,
    alarms: Vec<String>,
}

impl Console {
    /// Takes in lines until there are no more; `each` is shown each.
    pub(crate) fn read(from: impl Read, mut each: impl FnMut(&str)) -> Console {
        let mut console = Console::default();
        // A guest that breaks off within a line ends the reading; what came before is kept.
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            each(&line);
            console.take(line);
        }
        console
    }

    fn take(&mut self, line: String) {
        if ALARMS.iter().any(|alarm| line.contains(alarm)) && self.alarms.len() < KEPT {
            self.alarms.push(line.clone());
        }
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// The lines that say that something is wrong.
    pub(crate) fn alarms(&self) -> &[String] {
        &self.alarms
    }

    /// The last lines, of all kinds.
    pub(crate) fn last(&self, number: usize) -> impl Iterator<Item = &str> {
        self.lines.iter().skip(self.lines.len().saturating_sub(number)).map(String::as_str)
    }
}
