//! placeholder
use crate::Change;
/// The observed Services and EndpointSlices, changed object by object.
#[derive(Debug, Default)]
pub struct Catalog {}
impl Catalog {
    /// placeholder
    pub fn apply(&mut self, _change: Change) {}
}
