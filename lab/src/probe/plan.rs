//! A probe as the pod describes it, with its defaults and its named port resolved.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What one attempt does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// `GET path`; a status from 200 to 399 is a success.
    Http { port: u16, path: String, headers: Vec<(String, String)> },
    /// A connection that is accepted is a success.
    Tcp { port: u16 },
    /// A program in the container that ends with 0 is a success.
    Exec { command: Vec<String> },
}

/// A probe with all its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) action: Action,
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) success_threshold: u32,
    pub(crate) failure_threshold: u32,
}

impl Plan {
    /// Reads `probe` of `container`.
    ///
    /// # Errors
    /// A sentence that says what the lab cannot do, or which port is not there.
    pub(crate) fn new(probe: &Probe, container: &Container) -> Result<Self, String> {
        let action = if let Some(http) = &probe.http_get {
            http_action(http, container)?
        } else if let Some(tcp) = &probe.tcp_socket {
            Action::Tcp { port: port(&tcp.port, container)? }
        } else if let Some(exec) = &probe.exec {
            exec_action(exec, container)?
        } else {
            return Err(format!("container {:?}: the lab probes with httpGet, tcpSocket and exec", container.name));
        };
        let seconds = |value: Option<i32>, default: u32| {
            let seconds = value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
            Duration::from_secs(seconds.into())
        };
        let count =
            |value: Option<i32>, default: u32| value.and_then(|value| u32::try_from(value).ok()).unwrap_or(default);
        let least = Duration::from_secs(1);
        Ok(Self {
            action,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(least),
            timeout: seconds(probe.timeout_seconds, 1).max(least),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        })
    }
}

fn http_action(http: &HTTPGetAction, container: &Container) -> Result<Action, String> {
    if http.scheme.as_deref().is_some_and(|scheme| !scheme.eq_ignore_ascii_case("http")) {
        return Err(format!("container {:?}: the lab probes over HTTP, not HTTPS", container.name));
    }
    let path = http.path.as_deref().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let headers = http.http_headers.iter().flatten().map(|header| (header.name.clone(), header.value.clone()));
    Ok(Action::Http { port: port(&http.port, container)?, path, headers: headers.collect() })
}

fn exec_action(exec: &ExecAction, container: &Container) -> Result<Action, String> {
    match exec.command.clone().filter(|command| !command.is_empty()) {
        Some(command) => Ok(Action::Exec { command }),
        None => Err(format!("container {:?}: an exec probe needs a command", container.name)),
    }
}

/// A number, or the name of one of the container's ports.
fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
            named.or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| format!("container {:?} has no port {port:?} to probe", container.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(probe: Value) -> Result<Plan, String> {
        let container = json!({"name": "c", "ports": [{"name": "http", "containerPort": 8080}]});
        Plan::new(&serde_json::from_value(probe).unwrap(), &serde_json::from_value(container).unwrap())
    }

    #[test]
    fn what_is_not_said_has_the_defaults_of_kubernetes() {
        let plan = plan(json!({"httpGet": {"port": "http"}})).unwrap();
        assert_eq!(plan.action, Action::Http { port: 8080, path: "/".to_owned(), headers: vec![] });
        assert_eq!(
            (plan.initial_delay, plan.period, plan.timeout),
            (Duration::ZERO, Duration::from_secs(10), Duration::from_secs(1))
        );
        assert_eq!((plan.success_threshold, plan.failure_threshold), (1, 3));
    }

    #[test]
    fn a_port_that_is_not_there_is_named() {
        for port in [json!("grpc"), json!(0), json!(70000), json!(-1)] {
            let error = plan(json!({"tcpSocket": {"port": port}})).unwrap_err();
            assert!(error.starts_with("container \"c\" has no port"), "{error}");
        }
        assert_eq!(plan(json!({"tcpSocket": {"port": "9000"}})).unwrap().action, Action::Tcp { port: 9000 });
    }

    #[test]
    fn what_the_lab_cannot_probe_is_said() {
        assert!(plan(json!({"grpc": {"port": 1}})).unwrap_err().contains("httpGet, tcpSocket and exec"));
        assert!(plan(json!({"exec": {"command": []}})).unwrap_err().contains("needs a command"));
        assert!(plan(json!({"httpGet": {"port": 1, "scheme": "HTTPS"}})).unwrap_err().contains("not HTTPS"));
    }
}
