//! What the store has to know of a resource.

/// A collection of objects of one kind.
///
/// Two definitions of the same group and plural name are the same resource.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version within the group: `v1`.
    pub version: &'static str,
    /// The name in paths: `endpointslices`.
    pub plural: &'static str,
    /// `kind` of its objects.
    pub kind: &'static str,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Paths of the fields by which it can be selected, besides `metadata.name` and
    /// `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// The zero value of its type as JSON, without kind, version and metadata: what a bookmark
    /// carries.
    pub zero: &'static str,
}

impl Definition {
    /// `apiVersion` of its objects: `v1`, `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}
