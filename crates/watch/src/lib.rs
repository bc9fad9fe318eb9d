//! Files and folders, followed as they change.
//!
//! [`Paths`] follows some files or folders, [`FileTree`] follows all files below one folder. Both
//! see through symbolic links: every link on the way to a file is watched in its folder, and so is
//! what it leads to. A mounted ConfigMap, which is replaced by swapping the link `..data`, is seen
//! to change like a file that is edited.
//!
//! Nothing is missed: a folder is watched before it is looked at, folders that go and come back are
//! found again, and where the kernel has lost events everything is looked at anew.

mod error;
mod file_tree;
mod inotify;
mod links;
mod paths;
mod waker;

pub use error::Error;
pub use file_tree::{FileTree, Waited};
pub use paths::Paths;
pub use waker::Waker;
