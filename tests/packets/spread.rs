//! Even spread of new connections (spec §2.14), on the shared labs of the table.

use portolan_service::{Family, Protocol};
use portolan_tests::ask;
use portolan_tests::spread::assert_even;

use crate::case::{Client, Frontend, Mode, Setting};
use crate::fixture;
use crate::scene::pods;
use crate::world::{destination, world};

const CONNECTIONS: usize = 600;

/// Six hundred connections are spread evenly over the endpoints.
pub(crate) fn even(
    mode: Mode,
    service: &str,
    frontend: Frontend,
    client: Client,
    endpoints: &[&str],
    protocol: Protocol,
    family: Family,
) -> anyhow::Result<()> {
    let world = world(mode, Setting::Default).map_err(anyhow::Error::msg)?;
    let to = destination(&fixture::service(service), frontend, family);
    let outcomes = world
        .namespace(client)
        .run(move || ask::series(CONNECTIONS, || ask::ask(protocol, to, None, ask::PATIENCE)))?;
    assert_even(pods(&outcomes)?, endpoints).map_err(anyhow::Error::msg)
}
