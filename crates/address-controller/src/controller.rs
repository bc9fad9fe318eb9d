//! The thread that takes part in the election, and allocates while it has the Lease.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use portolan_kubernetes::{Api, Error, Reporter};
use tokio::sync::{Notify, watch};
use tokio::task::{LocalSet, spawn_local};
use tracing::info;

use crate::election::Election;
use crate::elector::Elector;
use crate::status::Status;
use crate::term::Term;
use crate::{Options, Pools};

/// How often the thread shows that it still works.
const TURN: Duration = Duration::from_secs(5);
/// The name by which people know who reports Events.
const NAME: &str = "portolan-controller";

/// A running controller. Dropping it ends it as a crash would: the Lease is not given back.
#[derive(Debug)]
pub struct Controller {
    status: Arc<Status>,
    pools: watch::Sender<Pools>,
    /// The end is asked for by `true`, and comes in any case when this is gone.
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Controller {
    /// How it goes.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Addresses are of these pools from now on.
    pub fn set_pools(&self, pools: Pools) {
        self.pools.send_replace(pools);
    }

    /// Finishes the write that is under way, gives the Lease back, and ends.
    pub fn stop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic was reported by the hook.
            let _ = thread.join();
        }
    }
}

/// Reads the client configuration and starts the thread. It fails only if that configuration is
/// unusable: an API server that does not answer is asked again for ever.
pub fn start(options: Options, pools: Pools) -> Result<Controller, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(Error::Thread)?;
    let status = Arc::new(Status::new());
    let (pools, wanted) = watch::channel(pools);
    let (end, ending) = watch::channel(false);
    let (started, result) = mpsc::sync_channel(1);
    let shown = status.clone();
    let body = move || {
        LocalSet::new().block_on(&runtime, async move {
            match Api::connect(&options.api, options.api_timing.clone()).await {
                Ok(api) => {
                    let _ = started.send(Ok(()));
                    serve(api, options, shown, wanted, ending).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    };
    let thread = thread::Builder::new().name("controller".to_owned()).spawn(body).map_err(Error::Thread)?;
    let ended = |_| Error::Thread(std::io::Error::other("it has ended"));
    result.recv().map_err(ended)??;
    Ok(Controller { status, pools, end, thread: Some(thread) })
}

/// Allocates whenever the Lease is ours, until the end.
async fn serve(
    api: Api,
    options: Options,
    status: Arc<Status>,
    pools: watch::Receiver<Pools>,
    mut ending: watch::Receiver<bool>,
) {
    let turns = status.clone();
    spawn_local(async move {
        loop {
            turns.turn();
            tokio::time::sleep(TURN).await;
        }
    });
    let election = Rc::new(RefCell::new(Election::new(options.identity.clone(), options.timing)));
    let changed = Rc::new(Notify::new());
    let elector = Rc::new(Elector {
        api: api.clone(),
        election: election.clone(),
        status: status.clone(),
        changed: changed.clone(),
        namespace: options.lease_namespace,
        name: options.lease_name,
        identity: options.identity.clone(),
        timing: options.timing,
    });
    let taking_part = elector.clone();
    let taking_part = spawn_local(async move { taking_part.run().await });
    let reporter = Reporter { controller: NAME, host: options.identity };
    let events = api.events(reporter);
    loop {
        let held = election.borrow().held(Instant::now());
        if let Some(number) = held {
            info!("this controller has the Lease, and allocates load-balancer addresses");
            status.leads(true);
            let term = Term {
                api: &api,
                events: &events,
                status: &status,
                election: &election,
                number,
                timing: options.timing,
            };
            term.run(pools.clone(), ending.clone()).await;
            status.leads(false);
            info!("this controller allocates no more");
        }
        if *ending.borrow() || ending.has_changed().is_err() {
            break;
        }
        tokio::select! {
            () = changed.notified() => {}
            _ = ending.changed() => {}
        }
    }
    taking_part.abort();
    if *ending.borrow() {
        elector.release().await;
    }
}
