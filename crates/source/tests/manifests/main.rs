//! Folders of manifests: what becomes of them, what is reported, and how they are followed.

mod controllers;
mod fields;
mod follow;
mod last_good;
mod names;
mod probes;
mod problems;
mod scale;
mod sequences;
mod state;
