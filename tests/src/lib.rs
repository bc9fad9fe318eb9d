//! What the tests with real packets are made of: the program under test, manifests, and ways to
//! look at the outcome. The tests themselves are in `packets/`.

pub mod ask;
pub mod binary;
pub mod harness;
pub mod lab;
pub mod manifests;
pub mod proxy;
pub mod sctp;
pub mod site;
pub mod spread;
