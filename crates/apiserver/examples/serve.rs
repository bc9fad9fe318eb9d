//! Serves a cluster of any size until it is interrupted, for trying a client by hand:
//!
//! `cargo run -p portolan-apiserver --example serve -- KUBECONFIG [SERVICES] [ENDPOINTS]`, where
//! ENDPOINTS are those of each Service.

use std::path::PathBuf;

use portolan_apiserver::{Credentials, Double, Options, Resource, scale};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("where shall the kubeconfig be written?")?);
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse::<usize>());
    let cluster = scale::cluster(number(10)?, number(1)?);
    let server = Double::start(Options::default())?;
    server.load(cluster.objects())?;
    server.kubeconfig(&path, &Credentials::Token("any".to_owned()))?;
    let (services, slices) =
        server.look(|state| (state.count(Resource::Services), state.count(Resource::EndpointSlices)));
    println!(
        "{} serves {services} Services and {slices} EndpointSlices: KUBECONFIG={}",
        server.url(),
        path.display()
    );
    loop {
        std::thread::park();
    }
}
