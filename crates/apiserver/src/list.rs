//! Lists, written piece by piece.

use std::io;
use std::sync::Arc;

use serde_json::json;

use crate::body::{Body, Sender};
use crate::resource::Resource;
use crate::selector::Selector;
use crate::state::{Request, Shared, State};
use crate::status::Failure;
use crate::store::{Expired, Page};

/// Pieces are about this large.
const PIECE: usize = 32 * 1024;

/// Answers a list with its first pieces on their way.
pub(crate) fn list(
    shared: &Arc<Shared>,
    resource: Resource,
    selector: &Selector,
    request: &Request,
) -> Result<Body, Failure> {
    let (page, break_after) = shared.change(|state| {
        let page = choose(state, resource, selector, request)?;
        Ok::<_, Failure>((page, state.faults.break_lists[resource.index()].take()))
    })?;
    let show_rest = selector.selects_all();
    let (sender, body) = Body::stream();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // An error means that nobody reads any more.
        let _gone = write(&shared, resource, page, show_rest, break_after, &sender).await;
    });
    Ok(body)
}

fn choose(
    state: &mut State,
    resource: Resource,
    selector: &Selector,
    request: &Request,
) -> Result<Page, Failure> {
    let number = |name: &str| match request.parameter(name) {
        None | Some("") => Ok(0_u64),
        Some(text) => text.parse().map_err(|_| Failure::new(400, format!("{name}: invalid value: {text:?}"))),
    };
    let limit = usize::try_from(number("limit")?).unwrap_or(usize::MAX);
    let wanted = number("resourceVersion")?;
    if let Some(token) = request.parameter("continue").filter(|token| !token.is_empty()) {
        return state.store.next_page(resource, token, limit).map_err(|Expired| {
            Failure::new(
                410,
                "The provided continue parameter is too old to display a consistent list result. \
                 Start a new list without the continue parameter.",
            )
        });
    }
    let current = state.store.version();
    if wanted > current {
        return Err(Failure::too_new(wanted, current));
    }
    if request.parameter("resourceVersionMatch") == Some("Exact") && wanted != current {
        return Err(Failure::too_old(wanted, current));
    }
    // A list at any version comes out of the watch cache, which does not page.
    let any = request.parameter("resourceVersion") == Some("0");
    Ok(state.store.first_page(resource, selector, if any { 0 } else { limit }))
}

async fn write(
    shared: &Shared,
    resource: Resource,
    page: Page,
    show_rest: bool,
    break_after: Option<usize>,
    sender: &Sender,
) -> Result<(), Gone> {
    let mut metadata = json!({ "resourceVersion": page.version.to_string() });
    if let Some((token, left)) = page.next {
        metadata["continue"] = json!(token);
        if show_rest {
            metadata["remainingItemCount"] = json!(left);
        }
    }
    let mut piece = format!(
        "{{\"kind\":\"{}List\",\"apiVersion\":\"{}\",\"metadata\":{metadata},\"items\":[",
        resource.kind(),
        resource.api_version(),
    )
    .into_bytes();
    for (position, object) in page.objects.iter().enumerate() {
        if break_after == Some(position) {
            send(shared, resource, sender, piece).await?;
            return sender.send(Err(io::Error::other("broken off on purpose"))).await.map_err(|_| Gone);
        }
        if position > 0 {
            piece.push(b',');
        }
        piece.extend_from_slice(&object.json);
        if piece.len() >= PIECE {
            send(shared, resource, sender, std::mem::take(&mut piece)).await?;
        }
    }
    piece.extend_from_slice(b"]}\n");
    send(shared, resource, sender, piece).await
}

/// Nobody reads any more.
struct Gone;

/// Sends a piece, once the resource is not stalled.
async fn send(shared: &Shared, resource: Resource, sender: &Sender, piece: Vec<u8>) -> Result<(), Gone> {
    let mut changed = shared.subscribe();
    while shared.lock().stalled(Some(resource)) {
        tokio::select! {
            changed = changed.changed() => changed.map_err(|_| Gone)?,
            () = sender.closed() => return Err(Gone),
        }
    }
    sender.send(Ok(piece.into())).await.map_err(|_| Gone)
}
