//! What is planned and not served, though all rules are in force: ports that other programs have.

use portolan_dataplane::Dataplane;
use portolan_observe::Telemetry;

/// What was last handed on.
#[derive(Debug, Default)]
pub(super) struct Unserved(Vec<String>);

impl Unserved {
    /// Hands on what is not served now. The dataplane has logged it.
    pub(super) fn report(&mut self, dataplane: &dyn Dataplane, telemetry: &Telemetry) {
        let now = dataplane.unserved();
        if self.0 != now {
            telemetry.health.set_unserved(now.clone());
            self.0 = now;
        }
    }
}
