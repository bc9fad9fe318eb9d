//! Objects from a folder of YAML and JSON files, followed as the files change.

mod contents;
mod file;
mod folder;
mod problem;
mod sources;
mod unmatched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use file::Reading;
use folder::Folder;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portolan_service::{Change, ObjectName, PerFamily};
pub use portolan_yaml::Tree;
pub use problem::{Problem, Severity};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use sources::Sources;
pub use unmatched::Workloads;

use crate::cluster::ledger::Ledger;
use crate::cluster::{Cluster, Ranges};
use crate::declared::{Issue, Key, Kind};

/// How manifests become objects.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where ClusterIPs are allocated. The family of the first is the one for Services that do not say.
    pub service_ranges: Vec<IpNet>,
    /// Where NodePorts are allocated.
    pub node_port_range: RangeInclusive<u16>,
    /// The file that remembers allocations over restarts and shares them between proxies; none to remember them
    /// only as long as this value lives.
    pub ledger: Option<PathBuf>,
    /// Never write the ledger.
    pub read_only: bool,
}

impl Default for Options {
    /// The defaults of kubeadm for IPv4, a range out of fd00::/8 for IPv6, no ledger.
    fn default() -> Options {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);
        Options {
            service_ranges: vec![v4.into(), v6.into()],
            node_port_range: 30_000..=32_767,
            ledger: None,
            read_only: false,
        }
    }
}

/// Why a folder of manifests cannot be used at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened.
    #[error("{}: cannot open the folder of manifests: {source}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else than a folder.
    #[error("{}: is not a folder; give the folder in which the manifests are", .0.display())]
    NotAFolder(PathBuf),
}

/// What changed.
#[derive(Debug)]
pub struct Update {
    /// Objects, each at most once.
    pub changes: Vec<Change>,
    /// What is wrong now and was not before.
    pub new_problems: Vec<Problem>,
    /// What is no longer wrong.
    pub solved: Vec<Problem>,
    /// When the first file event behind this came in.
    pub received: Instant,
    /// The files read, relative to the folder.
    pub files: Vec<PathBuf>,
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    folder: Folder,
    sources: Sources,
    cluster: Cluster,
    ledger: Option<PathBuf>,
    problems: BTreeMap<About, Vec<Problem>>,
    loaded: bool,
}

/// What problems are about: those about the same thing come and go together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Folder,
    Ledger,
    File(PathBuf),
    Duplicate(Key),
    Object(Key),
}

impl Manifests {
    /// Opens the folder at `folder`. Nothing is read yet.
    pub fn open(folder: impl AsRef<Path>, options: Options) -> Result<Manifests, OpenError> {
        let folder = folder.as_ref();
        let unusable = |source| OpenError::Unusable { folder: folder.to_owned(), source };
        if !std::fs::metadata(folder).map_err(unusable)?.is_dir() {
            return Err(OpenError::NotAFolder(folder.to_owned()));
        }
        let ranges = Ranges { services: options.service_ranges, node_ports: options.node_port_range };
        let ledger = Ledger::open(options.ledger.clone(), options.read_only);
        Ok(Manifests {
            folder: Folder::open(folder).map_err(unusable)?,
            sources: Sources::default(),
            cluster: Cluster::new(ranges, ledger),
            ledger: options.ledger,
            problems: BTreeMap::new(),
            loaded: false,
        })
    }

    /// Reads everything. At the first call, this is the full state; later, what differs.
    pub fn load(&mut self) -> Update {
        let received = Instant::now();
        let files = self.folder.rescan();
        self.loaded = true;
        self.read(&files, received)
    }

    /// Waits until something has changed, at most for `timeout`; `None` if nothing did. The first call loads, if
    /// [`Manifests::load`] was not called.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Update>> {
        if !self.loaded {
            return Ok(Some(self.load()));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let ready = poll_readable(self.folder.fd(), left)?;
            if ready {
                let received = Instant::now();
                let files = self.folder.take_events()?;
                let update = self.read(&files, received);
                if !update.changes.is_empty() || !update.new_problems.is_empty() || !update.solved.is_empty()
                {
                    return Ok(Some(update));
                }
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    /// The pods declared at present and their addresses.
    pub fn pods(&self) -> impl Iterator<Item = (&ObjectName, PerFamily<Option<IpAddr>>)> {
        self.cluster.pods()
    }

    /// What is wrong at present, sorted by file and line.
    pub fn problems(&self) -> Vec<&Problem> {
        let mut problems: Vec<&Problem> = self.problems.values().flatten().collect();
        problems.sort();
        problems
    }

    /// Names in the folder's files that match nothing, and pods that nobody makes, sorted by file
    /// and line. This reads all files again: it is for people who ask, not for every change.
    pub fn unmatched(&self, workloads: Workloads) -> Vec<Problem> {
        let texts = self.folder.files().filter_map(|path| match file::read(&self.folder.full(path)) {
            Reading::Text(text) => Some((path.to_owned(), text)),
            _ => None,
        });
        unmatched(&texts.collect::<Vec<_>>(), workloads)
    }

    fn read(&mut self, files: &BTreeSet<PathBuf>, received: Instant) -> Update {
        let mut update = Update {
            changes: Vec::new(),
            new_problems: Vec::new(),
            solved: Vec::new(),
            received,
            files: Vec::new(),
        };
        let mut duplicates = BTreeMap::new();
        let mut moved = BTreeSet::new();
        for path in files {
            let reading =
                if self.folder.has(path) { file::read(&self.folder.full(path)) } else { Reading::Gone };
            let contents = match reading {
                Reading::BeingWritten => continue,
                Reading::Text(text) => contents::read(path, &text),
                Reading::Gone if !self.sources.knows(path) && !self.has_problems(path) => continue,
                Reading::Gone => contents::Contents::default(),
                Reading::Failed(message) => {
                    let problem = Problem {
                        file: path.clone(),
                        line: None,
                        object: None,
                        field: None,
                        message,
                        severity: Severity::Error,
                    };
                    self.report(About::File(path.clone()), vec![problem], &mut update);
                    continue;
                }
            };
            update.files.push(path.clone());
            let problems = contents.problems.clone();
            self.report(About::File(path.clone()), problems, &mut update);
            let effect = self.sources.replace(path, contents);
            for (key, object) in effect.objects {
                self.cluster.set(&key, object);
            }
            duplicates.extend(effect.duplicates);
            moved.extend(effect.moved);
        }
        for (key, problems) in duplicates {
            self.report(About::Duplicate(key), problems, &mut update);
        }

        let settled = self.cluster.settle();
        update.changes = last_of_each(settled.changes);
        for (name, issues) in settled.issues {
            let key = Key { kind: Kind::Service, name };
            let problems = issues.into_iter().filter_map(|issue| self.problem(&key, issue)).collect();
            self.report(About::Object(key), problems, &mut update);
        }
        for key in moved {
            self.locate(key, &mut update);
        }
        let ledger = self.ledger.clone().unwrap_or_default();
        let problems = settled.ledger.into_iter().map(|error| Problem {
            file: ledger.clone(),
            line: error.line(),
            object: None,
            field: None,
            message: error.to_string(),
            severity: Severity::Error,
        });
        let problems = problems.collect();
        self.report(About::Ledger, problems, &mut update);
        let failed = self.folder.failed().iter().map(|(path, message)| Problem {
            file: if path.as_os_str().is_empty() { self.folder.full(path) } else { path.clone() },
            line: None,
            object: None,
            field: None,
            message: message.clone(),
            severity: Severity::Error,
        });
        let failed = failed.collect();
        self.report(About::Folder, failed, &mut update);
        // Within one update a file may be read in several parts; what only moved is no news.
        let (new, solved) = (update.new_problems.clone(), update.solved.clone());
        update.new_problems.retain(|problem| !solved.iter().any(|other| other.is(problem)));
        update.solved.retain(|problem| !new.iter().any(|other| other.is(problem)));
        update
    }

    /// Says of the problems of an object where it is declared now.
    fn locate(&mut self, key: Key, update: &mut Update) {
        let Some(problems) = self.problems.get(&About::Object(key.clone())) else { return };
        let located = problems
            .iter()
            .filter_map(|problem| {
                let field = problem.field.clone().unwrap_or_default();
                self.problem(&key, Issue { field, message: problem.message.clone() })
            })
            .collect();
        self.report(About::Object(key), located, update);
    }

    fn has_problems(&self, path: &Path) -> bool {
        self.problems.contains_key(&About::File(path.to_owned()))
    }

    fn problem(&self, key: &Key, issue: Issue) -> Option<Problem> {
        let (file, line) = self.sources.place(key, &issue.field)?;
        let field = (!issue.field.is_empty()).then_some(issue.field);
        let object = Some(key.to_string());
        Some(Problem {
            file: file.to_owned(),
            line,
            object,
            field,
            message: issue.message,
            severity: Severity::Error,
        })
    }

    /// `problems` are now all there are about this.
    fn report(&mut self, about: About, problems: Vec<Problem>, update: &mut Update) {
        let old = self.problems.remove(&about).unwrap_or_default();
        update.new_problems.extend(problems.iter().filter(|new| !old.iter().any(|old| old.is(new))).cloned());
        update.solved.extend(old.iter().filter(|old| !problems.iter().any(|new| new.is(old))).cloned());
        if !problems.is_empty() {
            self.problems.insert(about, problems);
        }
    }
}

// A program follows its manifests on a thread of their own.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Manifests>();
};

impl AsFd for Manifests {
    /// Readable when [`Manifests::wait`] has something to look at.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.fd()
    }
}

/// Reads the text of a manifest and returns what is wrong in it by itself, apart from other objects. `file` is used
/// in the problems, and to tell JSON from YAML.
pub fn validate(file: &Path, text: &str) -> Vec<Problem> {
    contents::read(file, text).problems
}

/// Names in these files that match nothing in any of them, and pods that nobody makes, sorted by
/// file and line. Documents that cannot be read are passed over: [`validate`] reports them.
pub fn unmatched(files: &[(PathBuf, String)], workloads: Workloads) -> Vec<Problem> {
    unmatched::find(files, workloads)
}

/// The documents of a manifest's text, whatever their kinds, with the line each begins on. The error is a line and a
/// message.
pub fn documents(text: &str) -> Result<Vec<Tree>, (usize, String)> {
    portolan_yaml::parse(text, 1).map_err(|error| (error.line, error.message))
}

/// What changes an object, and which.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Node(String),
    Slice(String),
    Service(String),
}

/// The last change of each object: several in one update amount to that. Nodes and slices come before Services.
fn last_of_each(changes: Vec<Change>) -> Vec<Change> {
    let subject = |change: &Change| match change {
        Change::Node(node) => Subject::Node(node.name.to_string()),
        Change::NodeRemoved(name) => Subject::Node(name.to_string()),
        Change::Slice(slice) => Subject::Slice(slice.name.to_string()),
        Change::SliceRemoved(name) => Subject::Slice(name.to_string()),
        Change::Service(service) => Subject::Service(service.name.to_string()),
        Change::ServiceRemoved(name) => Subject::Service(name.to_string()),
    };
    let last: BTreeMap<Subject, Change> =
        changes.into_iter().map(|change| (subject(&change), change)).collect();
    last.into_values().collect()
}

/// Waits until `fd` is readable, at most for `left`.
fn poll_readable(fd: BorrowedFd<'_>, left: Option<Duration>) -> io::Result<bool> {
    let timeout = left.map(|left| Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    });
    match poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], timeout.as_ref()) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
