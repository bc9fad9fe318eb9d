//! A server of a few pages, whatever they are about.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::StatusCode;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::answer::{self, METRICS, TEXT};
use super::listener::{self, Limits};

/// What a page says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// 200, text for people.
    Text(String),
    /// 200, metrics as Prometheus reads them.
    Metrics(String),
    /// 503, text for people.
    Unavailable(String),
}

/// The page at a path, if there is one.
pub type Pages = Arc<dyn Fn(&str) -> Option<Page> + Send + Sync>;

/// A running server of pages. It ends when this is dropped.
#[derive(Debug)]
pub struct PageServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl PageServer {
    /// Listens on `address`, and answers in `runtime` with `pages`.
    pub fn start(runtime: &Handle, address: SocketAddr, pages: Pages) -> io::Result<PageServer> {
        let context = runtime.enter();
        let listener = listener::bind(address, listener::Scope::AsAddressed)?;
        drop(context);
        let address = listener.local_addr()?;
        let handler: listener::Handler = Arc::new(move |request| {
            let answer = match pages(request.uri().path()) {
                Some(Page::Text(text)) => answer::text(text),
                Some(Page::Metrics(text)) => answer::answer(StatusCode::OK, METRICS, text),
                Some(Page::Unavailable(text)) => answer::answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, text),
                None => answer::not_found(),
            };
            Box::pin(std::future::ready(answer))
        });
        let task = runtime.spawn(listener::accept_all(listener, handler, Limits::default()));
        Ok(PageServer { address, task })
    }

    /// Where it answers, with the port that was chosen if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
