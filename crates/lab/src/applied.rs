//! The user's files, applied to the cluster: what `lab up FILE...` does.
//!
//! Each object is applied as `kubectl apply --server-side --force-conflicts` would, when it is new
//! in a file or has changed there. What people do to it otherwise stays until then. An object that
//! is in no file any more is deleted, if it was applied from one before.

mod declared;
mod files;
mod not_done;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, poll};
use portolan_apiserver::{DeleteOptions, Failure, Objects, Propagation, Resource};
use portolan_watch::Paths;
use serde_json::{Value, json};

use crate::Error;
use crate::finding::Finding;
use declared::{Declared, Key};
use not_done::not_done;

/// Who owns the fields that are in files.
const MANAGER: &str = "lab-up";
/// Files count as written when nothing has happened to them for so many milliseconds, because
/// editors take a file away before they put the new one in its place...
const QUIET: u16 = 50;
/// ... or after so many times as long, because somebody may write all the time.
const LONGEST: u32 = 20;

/// Files and folders, and what has been applied from them.
#[derive(Debug)]
pub(crate) struct Applied {
    given: Vec<PathBuf>,
    paths: Paths,
    /// What each file declares, in the order of the files. Of one that cannot be read, it is what
    /// it declared before.
    files: Vec<(PathBuf, Vec<Declared>)>,
    /// The Nodes at the start.
    nodes: Vec<Value>,
    /// What was wrong when the files were read.
    unread: Vec<Finding>,
    /// What was wrong when their objects were applied.
    refused: Vec<Finding>,
    done: BTreeMap<Key, Done>,
    /// Whether somebody allocates load-balancer addresses.
    pub(crate) has_load_balancer: bool,
}

/// An object that is on the server as a file has it.
#[derive(Debug)]
struct Done {
    wanted: Value,
    load_balancer: Option<Value>,
    uid: String,
}

impl Applied {
    /// Reads files and folders, and begins to follow them. Nothing is applied yet.
    ///
    /// Fails if a file cannot be read: nothing is known that could stand in for it.
    pub(crate) fn read(given: Vec<PathBuf>) -> Result<Applied, Error> {
        let paths = Paths::open(&given).map_err(Error::io("following the files of the lab"))?;
        let files = files::expand(&given)?;
        let read = |file: PathBuf| files::read(&file).map(|declared| (file, declared));
        let files = files.into_iter().map(read).collect::<Result<Vec<_>, Error>>()?;
        let mut applied = Applied {
            given,
            paths,
            files,
            nodes: Vec::new(),
            unread: Vec::new(),
            refused: Vec::new(),
            done: BTreeMap::new(),
            has_load_balancer: false,
        };
        let nodes = applied.declared().filter(|declared| is_node(declared));
        applied.nodes = nodes.map(|declared| declared.given.clone()).collect();
        Ok(applied)
    }

    /// The Node objects in the files as they were at the start. They are not applied: nodes are
    /// what the lab is built from.
    pub(crate) fn nodes(&self) -> &[Value] {
        &self.nodes
    }

    /// All objects in the files, as they are written.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Value> {
        self.declared().map(|declared| &declared.given)
    }

    /// The addresses that Services in the files ask for as ClusterIPs.
    pub(crate) fn services(&self) -> Vec<IpAddr> {
        self.declared().flat_map(Declared::cluster_ips).collect()
    }

    /// Applies what is not yet on the server as the files have it, and deletes what is in no file
    /// any more. What is wrong with one object does not keep others from it.
    pub(crate) fn apply(&mut self, objects: &Objects) {
        let wanted = self.wanted();
        self.put_all(objects, &wanted);
        let keys: BTreeSet<&Key> = wanted.iter().map(|(key, _)| key).collect();
        let gone: Vec<Key> = self.done.keys().filter(|key| !keys.contains(key)).cloned().collect();
        for key in &gone {
            self.delete(objects, key);
        }
        // What is gone may have been in the way, such as with an address.
        if !gone.is_empty() && !self.refused.is_empty() {
            self.put_all(objects, &wanted);
        }
    }

    fn put_all(&mut self, objects: &Objects, wanted: &[(Key, Declared)]) {
        self.refused.clear();
        // Pods find names of Services in their environment, and the DNS in their resolv.conf, when
        // they begin.
        let rank = |resource: Resource| match resource {
            Resource::Namespaces => 0,
            Resource::Services => 1,
            _ => 2,
        };
        let mut ordered: Vec<&(Key, Declared)> = wanted.iter().collect();
        ordered.sort_by_key(|(key, _)| rank(key.0));
        for (key, declared) in ordered {
            self.put(objects, key, declared);
        }
    }

    /// Waits until files have changed, and applies them.
    pub(crate) fn follow(&mut self, objects: &Objects) -> Result<(), Error> {
        let what = "following the files of the lab";
        self.paths.wait().map_err(Error::io(what))?;
        for _ in 0..LONGEST {
            let mut descriptors = [PollFd::new(self.paths.as_fd(), PollFlags::POLLIN)];
            if poll(&mut descriptors, QUIET).map_err(Error::io(what))? == 0 {
                break;
            }
            self.paths.changed().map_err(Error::io(what))?;
        }
        self.read_again();
        self.apply(objects);
        Ok(())
    }

    /// What is wrong with the files now, and what in them the lab does not do.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> =
            self.declared().flat_map(|declared| not_done(declared, self.has_load_balancer)).collect();
        findings.extend(self.twice().map(|(declared, first)| {
            let message = format!("is in {first} already, and that counts; take one of them out");
            declared.error("metadata.name", &message)
        }));
        let is_new = |declared: &&Declared| is_node(declared) && !self.nodes.contains(&declared.given);
        findings.extend(self.declared().filter(is_new).map(|declared| {
            declared.warning(
                "kind",
                "is not taken over: nodes stay those of the start; begin the lab anew for others",
            )
        }));
        findings.extend(self.unread.iter().chain(&self.refused).cloned());
        findings.sort();
        findings.dedup();
        findings
    }

    fn declared(&self) -> impl Iterator<Item = &Declared> {
        self.files.iter().flat_map(|(_, declared)| declared)
    }

    /// What is to be on the server, each object once.
    fn wanted(&self) -> Vec<(Key, Declared)> {
        let mut seen = BTreeSet::new();
        let served = self.declared().filter(|declared| !is_node(declared));
        let served = served.filter_map(|declared| Some((declared.key()?, declared.clone())));
        served.filter(|(key, _)| seen.insert(key.clone())).collect()
    }

    /// Objects that are declared again, with the place where they are first.
    fn twice(&self) -> impl Iterator<Item = (&Declared, String)> {
        let mut first: BTreeMap<Key, &Declared> = BTreeMap::new();
        let mut twice = Vec::new();
        for declared in self.declared() {
            let Some(key) = declared.key() else { continue };
            match first.get(&key) {
                Some(first) => twice.push((declared, first.place())),
                None => drop(first.insert(key, declared)),
            }
        }
        twice.into_iter()
    }

    /// Reads the files again. What cannot be read stays as it was.
    fn read_again(&mut self) {
        self.unread.clear();
        let files = match files::expand(&self.given) {
            Ok(files) => files,
            Err(error) => {
                self.unread.push(Finding::of_error(&error));
                return;
            }
        };
        let mut before: BTreeMap<PathBuf, Vec<Declared>> =
            std::mem::take(&mut self.files).into_iter().collect();
        for file in files {
            let known = before.remove(&file);
            // A pipe can be read once.
            let is_pipe = file.metadata().is_ok_and(|found| !found.is_file());
            let declared = match known {
                Some(known) if is_pipe => known,
                known => files::read(&file).unwrap_or_else(|error| {
                    self.unread.push(Finding::of_error(&error));
                    known.unwrap_or_default()
                }),
            };
            self.files.push((file, declared));
        }
    }

    /// Applies an object, unless it is as it was applied last.
    fn put(&mut self, objects: &Objects, key: &Key, declared: &Declared) {
        let (wanted, load_balancer) = (declared.wanted(), declared.load_balancer());
        let before = self.done.get(key);
        if before.is_some_and(|done| done.wanted == wanted && done.load_balancer == load_balancer) {
            return;
        }
        let had_balancer = before.is_some_and(|done| done.load_balancer.is_some());
        let (resource, namespace, name) = key;
        if !namespace.is_empty() && objects.get(Resource::Namespaces, "", namespace).is_none() {
            let object =
                json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
            // If that is refused, so is what is to be in it.
            let _refused = objects.apply(object, MANAGER, true);
        }
        let applied = objects.apply(wanted.clone(), MANAGER, true).and_then(|object| {
            if load_balancer.is_some() || had_balancer {
                let status = json!({ "status": { "loadBalancer": load_balancer } });
                objects.patch_status(*resource, namespace, name, status)?;
            }
            Ok(object)
        });
        match applied {
            Ok(object) => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
                self.done.insert(key.clone(), Done { wanted, load_balancer, uid });
            }
            Err(failure) => self.refused.push(declared.refused(&failure)),
        }
    }

    /// Deletes an object that was applied, if it is still the same one.
    fn delete(&mut self, objects: &Objects, key: &Key) {
        let Some(done) = self.done.remove(key) else { return };
        let (resource, namespace, name) = key;
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            uid: Some(done.uid),
            ..DeleteOptions::default()
        };
        match objects.delete(*resource, namespace, name, &options) {
            Ok(_) | Err(Failure { code: 404 | 409, .. }) => {}
            Err(failure) => self.refused.push(Finding {
                file: None,
                line: None,
                message: format!("{} {name} is in no file any more, but stays: {failure}", resource.kind()),
                is_warning: true,
            }),
        }
    }
}

fn is_node(declared: &Declared) -> bool {
    declared.kind() == "Node"
}

#[cfg(test)]
mod tests;
