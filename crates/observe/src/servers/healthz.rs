//! The health server: `/healthz` and `/livez`, with any method (spec §11.1).

use std::sync::Arc;

use super::answer::{self, JSON};
use super::listener::Handler;
use crate::Telemetry;

pub(super) fn handler(telemetry: Arc<Telemetry>) -> Handler {
    Arc::new(move |request| {
        let answer = match request.uri().path() {
            "/healthz" => {
                let (status, body) = telemetry.health.healthz();
                telemetry.metrics.healthz_answered(status.as_u16());
                answer::answer(status, JSON, body)
            }
            "/livez" => {
                let (status, body) = telemetry.health.livez();
                telemetry.metrics.livez_answered(status.as_u16());
                answer::answer(status, JSON, body)
            }
            _ => answer::not_found(),
        };
        Box::pin(std::future::ready(answer))
    })
}
