//! Routes: random tables, and random requests that come near to what the routes ask for.

use std::borrow::Cow;
use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use http::{HeaderMap, Method};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use routing::{Command, Decision, Outgoing, Request, RouteTable, Values};

use crate::ask::Ask;
use crate::peer::{Answer, CLUSTERS, Envoy, filter, manager};
use crate::tables::table;

/// Tables that are compared, and requests to each.
const TABLES: u64 = 60;
const REQUESTS: usize = 150;

const HOSTS: [&str; 6] = ["a.b", "x.a.b", "a.b:80", "A.B", "a.c", "[::1]:8080"];
const PATHS: [&str; 18] = [
    "/",
    "/v1",
    "/v1/",
    "/v1/x",
    "/v1foo",
    "/V1/x",
    "/v1?x=1",
    "/v1/x?y=2&x=1",
    "/v1?x",
    "/v1?x=&x=2",
    "//v1",
    "/v1//x",
    "/v1/x/y",
    "/v12",
    "/v1?q=/v1",
    "/a%20b",
    "/v1/x?x=a%20b",
    "/v2/x",
];
const VALUES: [&str; 11] = ["", "1", "5", "10", "abc", "ABC", "abcabc", "1,5", "-3", "é", "aé"];

#[test]
fn routes_are_chosen_and_requests_changed_as_envoy_does_it() {
    let mut random = SmallRng::seed_from_u64(7);
    let tables: Vec<RouteConfiguration> = (0..TABLES).map(|_| table(&mut random)).collect();
    let filters = || vec![filter("envoy.filters.http.router", &Router::default())];
    let managers: Vec<_> = tables.iter().map(|table| manager(table, filters())).collect();
    let Some(envoy) = Envoy::start(&managers) else { return };
    let mut seen = BTreeMap::<&str, usize>::new();
    for (index, table) in tables.iter().enumerate() {
        let ours = envoy::route_table(table).unwrap();
        let mut client = envoy.connect(index);
        for _ in 0..REQUESTS {
            let ask = ask(&mut random);
            let theirs = ask.send(&mut client);
            let (expected, kind) = expected(&ask.request(), &ours);
            let found = Seen::of(&theirs);
            if kind != "forward" && is_grpc(&ask.request()) {
                // Envoy says it in the words of gRPC, which is not the route's affair.
                continue;
            }
            assert_eq!(expected, found, "{ask:?}\n{theirs:#?}\n{table:#?}");
            *seen.entry(kind).or_default() += 1;
        }
    }
    println!("{seen:?}");
    for kind in ["forward", "redirect", "respond", "no route"] {
        assert!(seen.get(kind).is_some_and(|count| *count > 200), "{kind} in {seen:?}");
    }
}

/// What can be seen of what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: u16,
    location: Option<String>,
    /// The name of the route that answered, or of the cluster.
    who: String,
    /// What the destination got.
    got: Option<Got>,
    /// The headers of the response that routes add.
    added: Vec<(String, String)>,
}

/// What a destination got, with the headers that are compared in order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Got {
    path: String,
    authority: String,
    headers: Vec<(String, String)>,
}

/// A random request.
fn ask(random: &mut SmallRng) -> Ask {
    let methods = [Method::GET, Method::GET, Method::POST, Method::DELETE];
    let mut headers = Vec::new();
    for _ in 0..random.random_range(0..4) {
        let name = ["x-a", "x-b", "accept", "x-to", "content-type"].choose(random).unwrap();
        let value = match *name {
            "x-to" => ["a", "b", "nowhere"].choose(random).unwrap(),
            "content-type" => ["application/grpc", "application/grpc+proto", "text/plain"].choose(random).unwrap(),
            _ => VALUES.choose(random).unwrap(),
        };
        // Envoy makes one line of several of these, when it reads them.
        let is_joined = ["accept", "content-type"].contains(name);
        if !(is_joined && headers.iter().any(|(before, _)| before == name)) {
            headers.push(((*name).to_owned(), (*value).to_owned()));
        }
    }
    let method = methods.choose(random).unwrap();
    if method == Method::POST {
        headers.push(("content-length".to_owned(), "0".to_owned()));
    }
    Ask::new(method, HOSTS.choose(random).unwrap(), PATHS.choose(random).unwrap(), headers)
}

fn is_grpc(request: &Request<'_>) -> bool {
    request.header("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// What we would make of a request, and which kind of decision that was.
fn expected(request: &Request<'_>, table: &RouteTable) -> (Seen, &'static str) {
    let values = RequestValues(request.headers);
    let mut response = HeaderMap::new();
    match table.decide(request, 0) {
        Decision::NoRoute => (Seen::status(404), "no route"),
        Decision::Respond { found, status, body } => {
            found.change_response(&mut response, &values);
            let who = String::from_utf8(body.to_vec()).unwrap();
            (Seen { who, added: ours(&response), ..Seen::status(status.as_u16()) }, "respond")
        }
        Decision::Redirect { found, status, location } => {
            found.change_response(&mut response, &values);
            let seen = Seen::status(status.as_u16());
            (Seen { location: Some(location), added: ours(&response), ..seen }, "redirect")
        }
        Decision::Forward(choice) if !CLUSTERS.contains(&&*choice.cluster) => {
            choice.change_response(&mut response, &values);
            let status = choice.forward.missing_cluster.status().as_u16();
            (Seen { added: ours(&response), ..Seen::status(status) }, "no cluster")
        }
        Decision::Forward(choice) => {
            let mut outgoing = Outgoing {
                authority: request.authority.to_owned(),
                path: request.path.to_owned(),
                headers: request.headers.clone(),
            };
            choice.change_request(&mut outgoing, true, &values);
            // Formats of the response see the request as it was sent on.
            choice.change_response(&mut response, &RequestValues(&outgoing.headers));
            let headers = ours(&outgoing.headers);
            let got = Some(Got { path: outgoing.path, authority: outgoing.authority, headers });
            let seen = Seen { who: choice.cluster.into_owned(), got, added: ours(&response), ..Seen::status(200) };
            (seen, "forward")
        }
    }
}

/// Whether a header is compared: those of the test, and those in which Envoy keeps what it replaces.
fn is_compared(name: &str) -> bool {
    let others = ["accept", "content-type", "x-envoy-original-path", "x-envoy-original-host", "x-forwarded-host"];
    ["x-a", "x-b", "x-to"].contains(&name) || name.starts_with("x-new") || others.contains(&name)
}

/// Headers that are compared, in order of their names; several values are joined, for it makes no difference to anybody
/// how many lines they have.
fn compared<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<(String, String)> {
    let mut joined = BTreeMap::<String, String>::new();
    for (name, value) in headers.filter(|(name, _)| is_compared(name)) {
        let value = std::str::from_utf8(value).unwrap();
        joined
            .entry(name.to_owned())
            .and_modify(|before| *before += &format!(",{value}"))
            .or_insert_with(|| value.to_owned());
    }
    joined.into_iter().collect()
}

fn ours(headers: &HeaderMap) -> Vec<(String, String)> {
    compared(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

fn theirs(headers: &[(String, String)]) -> Vec<(String, String)> {
    compared(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())))
}

impl Seen {
    fn status(status: u16) -> Self {
        Self { status, location: None, who: String::new(), got: None, added: Vec::new() }
    }

    fn of(answer: &Answer) -> Self {
        let cluster = answer.all("x-cluster").first().map(|cluster| (*cluster).to_owned());
        let location = answer.all("location").first().map(|location| (*location).to_owned());
        let got = cluster.is_some().then(|| Self::at_destination(&answer.body));
        let mut added = theirs(&answer.headers);
        added.retain(|(name, _)| name != "content-type");
        // Bodies of errors that Envoy makes itself are for people.
        let is_error = answer.status == 404 || answer.status >= 500;
        let who = cluster.unwrap_or_else(|| if is_error { String::new() } else { answer.body.clone() });
        Self { status: answer.status, location, who, got, added }
    }

    /// What a server says it got.
    fn at_destination(body: &str) -> Got {
        let mut lines = body.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let headers = lines.map(|line| line.split_once(':').unwrap());
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.trim_start().to_owned())).collect();
        let authority = headers.iter().find(|(name, _)| name == "host").unwrap().1.clone();
        Got { path, authority, headers: theirs(&headers) }
    }
}

/// What formats of header values may name here.
struct RequestValues<'a>(&'a HeaderMap);

impl Values for RequestValues<'_> {
    fn value(&self, command: &Command) -> Option<Cow<'_, str>> {
        match command {
            Command::Req(names) => names
                .find(|name| self.0.get(name))
                .map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap().into()),
            _ => None,
        }
    }
}
