//! Keeps the last good state on disk.

use std::time::SystemTime;

use portolan_service::ObjectName;

use crate::decode::Object;
use crate::resource::Resource;

/// Writes to the snapshot, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Recorder {}

impl Recorder {
    pub(crate) fn open(_path: Option<&std::path::Path>) -> Recorder {
        Recorder::default()
    }

    pub(crate) fn put(&mut self, _resource: Resource, _name: &ObjectName, _object: &Object<'_>) {}

    pub(crate) fn remove(&mut self, _resource: Resource, _name: &ObjectName) {}

    pub(crate) fn finish_base(&mut self) {}

    pub(crate) fn load(&mut self, _object: impl FnMut(Resource, &[u8])) -> Option<SystemTime> {
        None
    }
}
