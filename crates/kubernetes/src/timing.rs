//! How long to wait for what.

use std::ops::Range;
use std::time::Duration;

/// How long to wait for what. The defaults suit any cluster; tests are in more of a hurry.
#[derive(Debug, Clone)]
pub struct Timing {
    /// For a connection to the API server.
    pub connect: Duration,
    /// For the beginning of an answer, throttling not included: the API server itself gives up
    /// after 60 s, and a list begins long before.
    pub answer: Duration,
    /// For more of a list that has begun.
    pub list: Duration,
    /// For anything on a watch. The API server sends a bookmark about once a minute: when three in
    /// a row are missing the connection is taken for half-open, and the watch is renewed from where
    /// it was. A half-open connection so costs at most this.
    pub quiet: Duration,
    /// How long a watch is asked for, as client-go does, so that watches spread over API servers;
    /// whole seconds.
    pub watch: Range<Duration>,
    /// The first pause after a failure; each further one is twice as long.
    pub pause: Duration,
    /// The longest pause while the API server is absent or starting: so much later than it we are
    /// ready at most.
    pub pause_at_most: Duration,
    /// An API server that has refused for longer is not starting but means it.
    pub starting: Duration,
    /// The longest pause then.
    pub refused_at_most: Duration,
    /// The longest pause until a resource that this API server does not have, or does not show us,
    /// is asked for again.
    pub rarely: Duration,
    /// How long a watch may say nothing after one that did not end as it should have, until the API
    /// server is asked for its version.
    pub proof: Duration,
    /// Until streaming lists are tried again on an API server that did not offer them.
    pub streaming_again: Duration,
    /// Until the snapshot is used while the API server does not answer.
    pub snapshot: Duration,
    /// How long the first delivery waits for the own Node and the ServiceCIDRs when Services and
    /// EndpointSlices are there.
    pub grace: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            connect: Duration::from_secs(5),
            answer: Duration::from_secs(30),
            list: Duration::from_secs(30),
            quiet: Duration::from_mins(3),
            watch: Duration::from_secs(290)..Duration::from_secs(590),
            pause: Duration::from_millis(250),
            pause_at_most: Duration::from_millis(1500),
            starting: Duration::from_mins(1),
            refused_at_most: Duration::from_secs(30),
            proof: Duration::from_secs(1),
            rarely: Duration::from_mins(15),
            streaming_again: Duration::from_hours(1),
            snapshot: Duration::from_secs(5),
            grace: Duration::from_millis(500),
        }
    }
}
