//! Objects from a folder of YAML and JSON files, followed as the files change.

mod contents;
mod file;
mod last_good;
mod ledger;
mod names_only;
mod probed;
mod problem;
mod sources;
mod unfinished;
mod unmatched;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use contents::Contents;
use file::Reading;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use last_good::LastGood;
use ledger::Ledger;
use names_only::NamesOnly;
use portolan_controllers::{Controllers, Issue, Naming, Ranges};
use portolan_probe::Target;
use portolan_service::{AddressPool, Change, NamesChange, ObjectName, PerFamily, Subject};
use portolan_watch::{FileTree, Waited, Waker};
pub use portolan_yaml::Tree;
use probed::Probed;
pub use probed::Probing;
pub use problem::{Problem, Severity};
use sources::Sources;
use unfinished::Unfinished;
pub use unmatched::Workloads;

use crate::declared::{Key, Kind, Object, Slice};

/// How manifests become objects.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where ClusterIPs are allocated. The family of the first is the one for Services that do not
    /// say.
    pub service_ranges: Vec<IpNet>,
    /// Where NodePorts are allocated.
    pub node_port_range: RangeInclusive<u16>,
    /// What Services of type LoadBalancer are given addresses of.
    pub pools: Vec<AddressPool>,
    /// Services without a `spec.loadBalancerClass` are, too.
    pub balances_by_default: bool,
    /// The file that remembers allocations over restarts and shares them between proxies. Without
    /// one they are remembered as long as this value lives.
    pub ledger: Option<PathBuf>,
    /// The folder that keeps the last good objects of each file over restarts. They stand in for
    /// what cannot be read at the start. Without one, that is missing.
    pub last_good: Option<PathBuf>,
    /// Never write the ledger, nor the last good objects.
    pub read_only: bool,
    /// What probes of Pods are for.
    pub probing: Probing,
}

impl Default for Options {
    /// The defaults of kubeadm for IPv4, a range out of fd00::/8 for IPv6, nothing kept.
    fn default() -> Options {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0), 112);
        Options {
            service_ranges: vec![v4.into(), v6.into()],
            node_port_range: 30_000..=32_767,
            pools: Vec::new(),
            balances_by_default: true,
            ledger: None,
            last_good: None,
            read_only: false,
            probing: Probing::default(),
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
    /// What only names come from, each object at most once.
    ///
    /// A Namespace exists if it is declared, or if any object that is read is in it. Those that
    /// every cluster has exist always: `default`, `kube-system`, `kube-public` and
    /// `kube-node-lease`.
    pub names: Vec<NamesChange>,
    /// Pods that are to be probed like this from now on, or no longer, each at most once.
    pub probes: Vec<(ObjectName, Option<Arc<Target>>)>,
    /// What is wrong now and was not before.
    pub new_problems: Vec<Problem>,
    /// What is no longer wrong.
    pub solved: Vec<Problem>,
    /// When the first file event behind this came in.
    pub received: Instant,
    /// The files read, relative to the folder.
    pub files: Vec<PathBuf>,
    /// The kind of each object that was skipped because it is not valid; `unknown` for a file with
    /// something that could not be read at all.
    pub undecodable: Vec<&'static str>,
}

impl Update {
    fn nothing(received: Instant) -> Update {
        Update {
            changes: Vec::new(),
            names: Vec::new(),
            probes: Vec::new(),
            new_problems: Vec::new(),
            solved: Vec::new(),
            received,
            files: Vec::new(),
            undecodable: Vec::new(),
        }
    }

    fn is_news(&self) -> bool {
        let Update { changes, names, probes, new_problems, solved, undecodable, .. } = self;
        !changes.is_empty()
            || !names.is_empty()
            || !probes.is_empty()
            || !new_problems.is_empty()
            || !solved.is_empty()
            || !undecodable.is_empty()
    }
}

/// A folder of manifests.
#[derive(Debug)]
pub struct Manifests {
    folder: FileTree,
    sources: Sources,
    controllers: Controllers<Ledger>,
    names_only: NamesOnly,
    probed: Probed,
    ledger: Option<PathBuf>,
    last_good: LastGood,
    problems: BTreeMap<About, Vec<Problem>>,
    unfinished: Unfinished,
    loaded: bool,
}

/// What problems are about: those about the same thing come and go together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    Folder,
    Ledger,
    LastGood,
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
        let mut controllers = Controllers::new(ranges, ledger);
        let wrong = controllers.set_pools(options.pools, options.balances_by_default);
        debug_assert!(wrong.is_empty(), "the configuration is checked: {wrong:?}");
        Ok(Manifests {
            folder: FileTree::open(folder, is_manifest).map_err(|error| unusable(error.into()))?,
            sources: Sources::default(),
            controllers,
            names_only: NamesOnly::new(),
            probed: Probed::new(options.probing),
            ledger: options.ledger,
            last_good: LastGood::open(options.last_good, folder, options.read_only),
            problems: BTreeMap::new(),
            unfinished: Unfinished::default(),
            loaded: false,
        })
    }

    /// Reads everything. At the first call, this is the full state; later, what differs.
    pub fn load(&mut self) -> Update {
        let received = Instant::now();
        self.last_good.write();
        let files = self.folder.rescan();
        if !self.loaded && self.folder.failed().is_empty() {
            self.last_good.keep_only(self.folder.files());
        }
        self.loaded = true;
        self.read(&files, received)
    }

    /// Waits until something has changed, at most for `timeout`; `None` if nothing did, or somebody
    /// has [woken](Manifests::waker) this up. The first call loads, if [`Manifests::load`] was not
    /// called.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Option<Update>> {
        if !self.loaded {
            return Ok(Some(self.load()));
        }
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            // Not before: what has changed comes into force first.
            if self.last_good.write() {
                return Ok(Some(self.read(&BTreeSet::new(), Instant::now())));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let waited = self.folder.wait(self.unfinished.shorten(left))?;
            let (received, changed) = (Instant::now(), waited == Waited::Changed);
            let mut files = self.unfinished.due(received);
            if changed {
                files.extend(self.folder.changed()?);
            }
            if changed || !files.is_empty() {
                let update = self.read(&files, received);
                if update.is_news() {
                    return Ok(Some(update));
                }
            }
            if waited == Waited::Woken || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    /// What wakes up [`Manifests::wait`].
    pub fn waker(&self) -> Waker {
        self.folder.waker()
    }

    /// Probes say whether these Pods are ready. Returns what follows.
    pub fn set_readiness<'a>(&mut self, pods: impl IntoIterator<Item = (&'a ObjectName, bool)>) -> Update {
        let received = Instant::now();
        for (name, ready) in pods {
            if let Some(pod) = self.probed.set_ready(name, ready) {
                self.controllers.set_pod(name, Some(pod));
            }
        }
        self.read(&BTreeSet::new(), received)
    }

    /// The pods declared at present and their addresses.
    pub fn pods(&self) -> impl Iterator<Item = (&ObjectName, PerFamily<Option<IpAddr>>)> {
        self.controllers.pods()
    }

    /// The pods that say anything of names, and what they say.
    pub fn naming(&self) -> impl Iterator<Item = (&ObjectName, &Arc<Naming>)> {
        self.controllers.naming()
    }

    /// What is wrong at present, sorted by file and line.
    pub fn problems(&self) -> Vec<&Problem> {
        let mut problems: Vec<&Problem> = self.problems.values().flatten().collect();
        problems.sort();
        problems
    }

    /// Where `field` of this Service is declared: the file, relative to the folder, and the line.
    pub fn place(&self, service: &ObjectName, field: &str) -> Option<(&Path, Option<usize>)> {
        self.sources.place(&Key { kind: Kind::Service, name: service.clone() }, field)
    }

    /// Whether there is any file that is read.
    pub fn has_files(&self) -> bool {
        self.folder.files().next().is_some()
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
        let mut update = Update::nothing(received);
        let mut duplicates = BTreeMap::new();
        let mut moved = BTreeSet::new();
        for path in files {
            let Some(mut contents) = self.contents(path) else { continue };
            update.files.push(path.clone());
            update.undecodable.extend(contents.undecodable());
            self.last_good.note(path, &contents);
            if !contents.is_whole() && !self.sources.knows(path) {
                contents.fill_up(self.last_good.of(path));
            }
            let problems = contents.problems.clone();
            self.report(About::File(path.clone()), problems, &mut update);
            let effect = self.sources.replace(path, contents);
            for (key, object) in effect.objects {
                self.set(&key, object, &mut update.changes);
            }
            duplicates.extend(effect.duplicates);
            moved.extend(effect.moved);
        }
        for (key, problems) in duplicates {
            self.report(About::Duplicate(key), problems, &mut update);
        }

        let outcome = self.controllers.reconcile();
        update.changes.extend(outcome.changes);
        in_order(&mut update.changes);
        update.names = self.names_only.take();
        update.probes = self.probed.take();
        for (name, issues) in outcome.issues {
            let key = Key { kind: Kind::Service, name };
            let problems = issues.into_iter().filter_map(|issue| self.problem(&key, issue)).collect();
            self.report(About::Object(key), problems, &mut update);
        }
        for key in moved {
            self.locate(key, &mut update);
        }
        self.report_files_of_our_own(&mut update);
        // Within one update a file may be read in several parts; what only moved is no news.
        let (new, solved) = (update.new_problems.clone(), update.solved.clone());
        update.new_problems.retain(|problem| !solved.iter().any(|other| other.is(problem)));
        update.solved.retain(|problem| !new.iter().any(|other| other.is(problem)));
        update
    }

    /// What the file at `path` holds now; `None` if that was known.
    fn contents(&mut self, path: &Path) -> Option<Contents> {
        let reading = if self.folder.has(path) { file::read(&self.folder.full(path)) } else { Reading::Gone };
        match reading {
            Reading::BeingWritten => self.unfinished.note(path, Instant::now()),
            _ => self.unfinished.forget(path),
        }
        match reading {
            Reading::BeingWritten if self.sources.knows(path) => None,
            Reading::BeingWritten => Some(Contents::unread(None)),
            Reading::Text(text) => Some(contents::read(path, &text)),
            Reading::Gone if !self.sources.knows(path) && !self.has_problems(path) => None,
            Reading::Gone => Some(Contents::default()),
            Reading::Failed(message) => {
                Some(Contents::unread(Some(Problem::of_file(path.to_owned(), None, message))))
            }
        }
    }

    /// The object called `key` is now `object`, or gone.
    fn set(&mut self, key: &Key, object: Option<Object>, changes: &mut Vec<Change>) {
        self.names_only.set(key, object.as_ref());
        let (controllers, name) = (&mut self.controllers, &key.name);
        match object {
            Some(Object::Namespace(labels)) => {
                let labels = labels.iter().map(|(key, value)| (key.to_string(), value.to_string()));
                controllers.set_namespace(name.name(), Some(labels.collect()));
            }
            Some(Object::Node(node)) => {
                controllers.set_node(name.name(), Some(&node));
                changes.push(Change::Node((*node).clone()));
            }
            Some(Object::Pod(pod, _, target)) => {
                controllers.set_pod(name, Some(self.probed.set(name, pod, target)));
            }
            Some(Object::Service(service)) => controllers.set_service(name, Some(service)),
            Some(Object::Endpoints(endpoints)) => controllers.set_endpoints(name, Some(endpoints)),
            Some(Object::EndpointSlice(Slice::Addresses { slice, .. })) => changes.push(Change::Slice(slice)),
            Some(Object::EndpointSlice(Slice::Targets(_) | Slice::Unused)) => {
                changes.push(Change::SliceRemoved(name.clone()));
            }
            None => match key.kind {
                Kind::Namespace => controllers.set_namespace(name.name(), None),
                Kind::Node => {
                    controllers.set_node(name.name(), None);
                    changes.push(Change::NodeRemoved(name.name().into()));
                }
                Kind::Pod => {
                    self.probed.remove(name);
                    controllers.set_pod(name, None);
                }
                Kind::Service => controllers.set_service(name, None),
                Kind::Endpoints => controllers.set_endpoints(name, None),
                Kind::EndpointSlice => changes.push(Change::SliceRemoved(name.clone())),
            },
        }
    }

    /// What is wrong with the ledger, and with folders that cannot be followed.
    fn report_files_of_our_own(&mut self, update: &mut Update) {
        let ledger = self.ledger.clone().unwrap_or_default();
        let errors = self.controllers.record().errors().into_iter();
        let problems =
            errors.map(|error| Problem::of_file(ledger.clone(), error.line(), error.to_string())).collect();
        self.report(About::Ledger, problems, update);
        let unkept = self.last_good.failure().map(|reason| Problem {
            severity: Severity::Warning,
            ..Problem::of_file(
                self.last_good.place().unwrap_or(Path::new("")).to_owned(),
                None,
                reason.to_owned(),
            )
        });
        self.report(About::LastGood, unkept.into_iter().collect(), update);
        let failed = self.folder.failed().iter().map(|(path, error)| {
            let file = if path.as_os_str().is_empty() { self.folder.full(path) } else { path.clone() };
            Problem::of_file(file, None, format!("the folder cannot be followed: {error}"))
        });
        let failed = failed.collect();
        self.report(About::Folder, failed, update);
    }

    /// Says of the problems of an object where it is declared now.
    fn locate(&mut self, key: Key, update: &mut Update) {
        let Some(problems) = self.problems.get(&About::Object(key.clone())) else { return };
        let located = problems
            .iter()
            .filter_map(|problem| {
                let field = problem.field.clone().unwrap_or_default();
                self.problem(&key, Issue::new(field, problem.message.clone()))
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

/// Reads the text of a manifest and returns what is wrong in it by itself, apart from other
/// objects. `file` is named in the problems; its extension says whether it is JSON or YAML.
pub fn validate(file: &Path, text: &str) -> Vec<Problem> {
    contents::read(file, text).problems
}

/// Names in these files that match nothing in any of them, and pods that nobody makes, sorted by
/// file and line. Documents that cannot be read are passed over: [`validate`] reports them.
pub fn unmatched(files: &[(PathBuf, String)], workloads: Workloads) -> Vec<Problem> {
    unmatched::find(files, workloads)
}

/// The documents of a manifest's text, whatever their kinds, with the line each begins on. The
/// error is a line and a message.
pub fn documents(text: &str) -> Result<Vec<Tree>, (usize, String)> {
    portolan_yaml::parse(text, 1).map_err(|error| (error.line, error.message))
}

/// Leaves of several changes of an object the last one. Nodes and slices come before Services.
fn in_order(changes: &mut Vec<Change>) {
    Change::keep_last(changes);
    let place = |change: &Change| match change.subject() {
        Subject::Node(_) => 0,
        Subject::Slice(_) => 1,
        Subject::Service(_) => 2,
    };
    changes.sort_by_key(place);
}

/// Whether the file at `path` is one of those that are read.
fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
