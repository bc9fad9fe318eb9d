//! The metrics server: `/metrics` and the pages beside it (spec §11.13-11.15).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, HeaderMap};
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use super::Options;
use super::answer::{self, Answer, METRICS, TEXT};
use super::listener::Handler;
use crate::Telemetry;
use crate::timestamp::rfc3339;

/// Under which name the configuration is shown.
const CONFIG_KEY: &str = "kubeproxy.config.k8s.io";
/// The longest body of `PUT /debug/flags/v`, in bytes.
const VERBOSITY_LENGTH: usize = 16;
const PATHS: [&str; 7] =
    ["/configz", "/flagz", "/healthz", "/metrics", "/metrics/slis", "/proxyMode", "/statusz"];

pub(super) struct Pages {
    options: Options,
    telemetry: Arc<Telemetry>,
    started: SystemTime,
}

pub(super) fn handler(pages: Arc<Pages>) -> Handler {
    Arc::new(move |request| {
        let pages = pages.clone();
        Box::pin(async move {
            if request.uri().path() == "/debug/flags/v" {
                pages.set_verbosity(request).await
            } else {
                pages.answer(&request)
            }
        })
    })
}

impl Pages {
    pub(super) fn new(options: Options, telemetry: Arc<Telemetry>, started: SystemTime) -> Pages {
        Pages { options, telemetry, started }
    }

    fn answer(&self, request: &Request<Incoming>) -> Answer {
        match request.uri().path() {
            "/metrics" => answer::answer(StatusCode::OK, METRICS, self.telemetry.metrics_text()),
            "/metrics/slis" if request.method() == Method::DELETE => {
                self.telemetry.metrics.reset_slis();
                answer::text("metrics reset\n")
            }
            "/metrics/slis" => answer::answer(StatusCode::OK, METRICS, self.telemetry.slis_text()),
            // The health of this server alone; the health of the proxy is elsewhere.
            "/healthz" => answer::text("ok"),
            "/proxyMode" => answer::text(self.options.mode.clone()),
            "/configz" => answer::json(&json!({ CONFIG_KEY: self.options.configz })),
            "/version" => answer::json(&self.options.build),
            "/flagz" => self.flagz(request.headers()),
            "/statusz" => self.statusz(request.headers()),
            "/debug/flags" | "/debug/flags/" if self.options.profiling => answer::text(self.flags()),
            path if self.options.profiling && path.starts_with("/debug/pprof") => answer::answer(
                StatusCode::NOT_FOUND,
                TEXT,
                "this program has no Go runtime to profile: use perf(1) with its process id\n",
            ),
            _ => answer::not_found(),
        }
    }

    fn flags(&self) -> String {
        let sorted: BTreeMap<&str, &str> =
            self.options.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        sorted.into_iter().fold(String::new(), |mut text, (name, value)| {
            let _ = writeln!(text, "{name}={value}");
            text
        })
    }

    fn flagz(&self, headers: &HeaderMap) -> Answer {
        if let Some(version) = structured(headers, "Flagz") {
            let flags: BTreeMap<&str, &str> =
                self.options.flags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            return answer::json(&json!({
                "kind": "Flagz",
                "apiVersion": format!("config.k8s.io/{version}"),
                "metadata": {"name": self.options.component},
                "flags": flags,
            }));
        }
        answer::text(format!("{}\n{}", self.header("flagz"), self.flags()))
    }

    fn statusz(&self, headers: &HeaderMap) -> Answer {
        let version = self.options.build.git_version.trim_start_matches('v');
        let uptime = self.started.elapsed().unwrap_or_default().as_secs();
        if let Some(form) = structured(headers, "Statusz") {
            return answer::json(&json!({
                "kind": "Statusz",
                "apiVersion": format!("config.k8s.io/{form}"),
                "metadata": {"name": self.options.component},
                "startTime": rfc3339(self.started),
                "uptimeSeconds": uptime,
                "goVersion": "",
                "binaryVersion": version,
                "emulationVersion": version,
                "paths": PATHS,
            }));
        }
        answer::text(format!(
            "{}\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nBinary version: {version}\nEmulation version: {version}\nPaths: {}\n",
            self.header("statusz"),
            rfc3339(self.started),
            uptime / 3600,
            uptime / 60 % 60,
            uptime % 60,
            PATHS.join(" "),
        ))
    }

    fn header(&self, page: &str) -> String {
        format!("{} {page}\nWarning: this page is for people; its form may change.\n", self.options.component)
    }

    /// `PUT /debug/flags/v` with the new verbosity as body (spec §11.13).
    async fn set_verbosity(&self, request: Request<Incoming>) -> Answer {
        let refuse = |status, text: String| answer::answer(status, TEXT, text);
        if !self.options.profiling {
            return answer::not_found();
        }
        if request.method() != Method::PUT {
            return refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "use PUT, with the verbosity as body\n".to_owned(),
            );
        }
        let Ok(body) = Limited::new(request.into_body(), VERBOSITY_LENGTH).collect().await else {
            return refuse(StatusCode::BAD_REQUEST, "the body should be a verbosity, such as 4\n".to_owned());
        };
        let body = body.to_bytes();
        let verbosity = std::str::from_utf8(&body).ok().and_then(|text| text.trim().parse::<u32>().ok());
        match verbosity.map(|verbosity| (verbosity, (self.options.set_verbosity)(verbosity))) {
            Some((verbosity, Ok(()))) => answer::text(format!("verbosity is now {verbosity}\n")),
            Some((verbosity, Err(error))) => {
                refuse(StatusCode::BAD_REQUEST, format!("verbosity {verbosity}: {error}\n"))
            }
            None => refuse(StatusCode::BAD_REQUEST, "the body should be a verbosity, such as 4\n".to_owned()),
        }
    }
}

/// The version of the structured form of `kind` that the client asks for:
/// `application/json;as=Flagz;v=v1beta1;g=config.k8s.io`.
fn structured(headers: &HeaderMap, kind: &str) -> Option<&'static str> {
    let accept = headers.get(ACCEPT)?.to_str().ok()?;
    accept.split(',').find_map(|choice| {
        let mut parts = choice.split(';').map(str::trim);
        if parts.next()? != "application/json" {
            return None;
        }
        let parts: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
        let of_kind = parts.get("as") == Some(&kind) && parts.get("g") == Some(&"config.k8s.io");
        ["v1beta1", "v1alpha1"].into_iter().find(|version| of_kind && parts.get("v") == Some(version))
    })
}
