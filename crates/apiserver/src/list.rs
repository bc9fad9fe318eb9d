//! Lists, written piece by piece.

use std::io;
use std::sync::Arc;

use portolan_store::{Failure, ListOptions, Page, Selector};

use crate::body::{Body, Gone, Sender};
use crate::resource::Resource;
use crate::shape::Shape;
use crate::state::{Request, Shared};

/// Pieces are about this large.
const PIECE: usize = 32 * 1024;

/// Answers a list with its first pieces on their way.
pub(crate) fn list(
    shared: &Arc<Shared>,
    shape: Shape,
    selector: &Selector,
    request: &Request,
) -> Result<Body, Failure> {
    let resource = shape.view.resource;
    let options = ListOptions::read(|name| request.parameter(name))?;
    let mut state = shared.lock();
    let mut page = state.store.list(resource.definition(), selector, &options)?;
    for object in &mut page.objects {
        *object = state.faults.sent(object);
    }
    let break_after = state.faults.break_lists[resource.index()].take();
    drop(state);
    let show_rest = selector.selects_all();
    let (sender, body) = Body::stream();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // An error means that nobody reads any more.
        let _gone = write(&shared, shape, page, show_rest, break_after, &sender).await;
    });
    Ok(body)
}

async fn write(
    shared: &Shared,
    shape: Shape,
    page: Page,
    show_rest: bool,
    break_after: Option<usize>,
    sender: &Sender,
) -> Result<(), Gone> {
    let resource = shape.view.resource;
    let mut piece = shape.list_head(&page, show_rest);
    for (position, object) in page.objects.iter().enumerate() {
        if break_after == Some(position) {
            send(shared, resource, sender, piece).await?;
            return sender.send(Err(io::Error::other("broken off on purpose"))).await.map_err(|_| Gone);
        }
        if position > 0 {
            piece.push(b',');
        }
        piece.extend_from_slice(&shape.item(object));
        if piece.len() >= PIECE {
            send(shared, resource, sender, std::mem::take(&mut piece)).await?;
        }
    }
    piece.extend_from_slice(b"]}\n");
    send(shared, resource, sender, piece).await
}

/// Sends a piece, once the resource is not stalled.
async fn send(shared: &Shared, resource: Resource, sender: &Sender, piece: Vec<u8>) -> Result<(), Gone> {
    let mut changed = shared.subscribe_faults();
    while shared.lock().stalled(Some(resource)) {
        tokio::select! {
            changed = changed.changed() => changed.map_err(|_| Gone)?,
            () = sender.closed() => return Err(Gone),
        }
    }
    sender.send(Ok(piece.into())).await.map_err(|_| Gone)
}
