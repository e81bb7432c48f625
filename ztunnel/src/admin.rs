//! The proxy's own endpoints: admin, metrics, readiness.

mod dump;
mod model;

use std::sync::Arc;

use drain::{Readiness, Trigger};
use http::StatusCode;
use telemetry::Registry;
use telemetry::http::{Body, Request, Response, Router, html, json, metrics, text};
use telemetry::log::FilterHandle;

use crate::node::Node;

/// What `/logging` says when it is asked wrongly.
const LOGGING_USAGE: &str = "\
usage: POST /logging\t\t\t\t\t\t(To list current level)
usage: POST /logging?level=<level>\t\t\t\t(To change global levels)
usage: POST /logging?level={mod1=level1,mod2=level2}\t(To change specific mods' logging level)
usage: POST /logging?reset\t\t\t\t\t(To go back to the levels of the start)

hint: levels are off, error, warn, info, debug, trace
";

/// The pages that the index lists.
const PAGES: [(&str, &str); 4] = [
    ("/config_dump", "workloads, services, policies, certificates and connections"),
    ("/logging", "POST: show or change log levels"),
    ("/quitquitquit", "POST: drain and end the process"),
    ("/", "this page"),
];

/// Answers admin requests.
pub(crate) struct Admin {
    config: Arc<config::Ztunnel>,
    node: Arc<Node>,
    filter: FilterHandle,
    trigger: Trigger,
}

impl Admin {
    pub(crate) fn new(config: Arc<config::Ztunnel>, node: Arc<Node>, filter: FilterHandle, trigger: Trigger) -> Self {
        Self { config, node, filter, trigger }
    }

    pub(crate) fn routes(&self) -> Router {
        let (config, node) = (Arc::clone(&self.config), Arc::clone(&self.node));
        let filter = self.filter.clone();
        let (trigger, grace) = (self.trigger.clone(), self.config.drain_deadline);
        Router::new()
            .any("/", |_request| async { html(index()) })
            .any("/config_dump", move |_request| {
                let (config, node) = (Arc::clone(&config), Arc::clone(&node));
                async move {
                    let (sender, body) = Body::streamed();
                    tokio::spawn(dump::write(config, node, sender));
                    json(body)
                }
            })
            .post("/logging", move |request| {
                let answer = logging(&filter, &request);
                async { answer }
            })
            .post("/quitquitquit", move |_request| {
                tracing::info!("asked to end");
                trigger.start(grace);
                async { text(StatusCode::OK, "shutdown now\n") }
            })
    }
}

/// The routes of the metrics port and of the readiness port.
pub(crate) fn status_routes(registry: &Registry, readiness: &Readiness) -> (Router, Router) {
    let scrape = |registry: &Registry| {
        let registry = registry.clone();
        move |request: Request| {
            let answer = metrics(&registry, &request);
            async { answer }
        }
    };
    let stats = Router::new().get("/metrics", scrape(registry)).get("/stats/prometheus", scrape(registry));
    let readiness = readiness.clone();
    let ready = Router::new().get("/healthz/ready", move |_request| {
        let answer = readiness_answer(&readiness);
        async { answer }
    });
    (stats, ready)
}

fn readiness_answer(readiness: &Readiness) -> Response {
    let pending = readiness.pending();
    if pending.is_empty() {
        return text(StatusCode::OK, "ready\n");
    }
    text(StatusCode::INTERNAL_SERVER_ERROR, format!("not ready, pending: {}\n", pending.join(", ")))
}

fn index() -> String {
    let rows: String = PAGES
        .iter()
        .map(|(path, what)| format!("<tr><td><a href=\"{path}\">{path}</a></td><td>{what}</td></tr>\n"))
        .collect();
    format!(
        "<!DOCTYPE html>\n<html><head><title>aquifer ztunnel</title></head><body><table>\n{rows}</table></body></html>\n"
    )
}

fn logging(filter: &FilterHandle, request: &Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let mut level = String::new();
    let mut is_reset = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("level", value) => match decoded(value) {
                Some(value) => level = value,
                None => return text(StatusCode::BAD_REQUEST, LOGGING_USAGE),
            },
            ("reset", _) => is_reset = true,
            _ => return text(StatusCode::BAD_REQUEST, LOGGING_USAGE),
        }
    }
    match filter.change(&level, is_reset) {
        Ok(filter) => text(StatusCode::OK, format!("current log level is {filter}\n")),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n\n{LOGGING_USAGE}")),
    }
}

/// Undoes percent-encoding; clients encode the `=` and `,` of filters.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let (high, low) = (rest.next()?, rest.next()?);
                let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit(high)? * 16 + digit(low)?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use telemetry::log::Filter;

    use super::*;

    fn post(filter: &FilterHandle, query: &str) -> (u16, String) {
        let uri = format!("/logging{query}");
        let response = logging(filter, &http::Request::post(uri).body(Bytes::new()).unwrap());
        let status = response.status().as_u16();
        match response.into_body() {
            Body::Whole(bytes) => (status, String::from_utf8(bytes.to_vec()).unwrap()),
            Body::Streamed(_) => panic!("the answer is whole"),
        }
    }

    #[test]
    fn log_levels_are_listed_changed_and_reset() {
        let filter = FilterHandle::detached("info,h2=off".parse::<Filter>().unwrap());
        let cases = [
            ("", 200, "info,h2=off"),
            ("?level=", 200, "info,h2=off"),
            ("?level=debug", 200, "debug,h2=off"),
            ("?level=xds%3Dtrace,access=off", 200, "debug,access=off,h2=off,xds=trace"),
            ("?level=hbone:error", 200, "debug,access=off,h2=off,hbone=error,xds=trace"),
            ("?level=warning&reset", 200, "warn,h2=off"),
            ("?reset", 200, "info,h2=off"),
        ];
        for (query, status, shown) in cases {
            assert_eq!(post(&filter, query), (status, format!("current log level is {shown}\n")), "{query}");
        }
        for query in ["?level=verbose", "?level=xds", "?lvl=debug", "?level=%zz"] {
            let (status, body) = post(&filter, query);
            assert_eq!(status, 400, "{query}");
            assert!(body.contains("usage: POST /logging"), "{body}");
        }
        assert_eq!(post(&filter, "").1, "current log level is info,h2=off\n");
    }

    #[test]
    fn readiness_names_what_is_pending() {
        let readiness = Readiness::new();
        let (state, manager) = (readiness.task("state manager"), readiness.task("workload proxy manager"));
        let body = |readiness: &Readiness| match readiness_answer(readiness).into_body() {
            Body::Whole(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Body::Streamed(_) => String::new(),
        };
        assert_eq!(readiness_answer(&readiness).status(), 500);
        assert_eq!(body(&readiness), "not ready, pending: state manager, workload proxy manager\n");
        state.complete();
        manager.complete();
        assert_eq!(readiness_answer(&readiness).status(), 200);
        assert_eq!(body(&readiness), "ready\n");
    }
}
