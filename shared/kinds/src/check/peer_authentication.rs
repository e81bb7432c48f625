//! Values of a PeerAuthentication.

use super::Report;
use super::nearest::nearest;
use crate::security::{MutualTlsMode, PeerAuthenticationSpec, WorkloadSelector};

pub(super) fn check(spec: &PeerAuthenticationSpec, report: &mut Report) {
    selector(spec.selector.as_ref(), report);
    // An unknown mode is an unknown enumeration value, which the structure check names.
    if !spec.port_level_mtls.is_empty() && spec.selected().is_none() {
        let finding = report.missing("spec.selector.matchLabels", "labels of the workload whose ports are meant");
        "portLevelMtls needs a selector".clone_into(&mut finding.advice);
    }
    for (port, mtls) in &spec.port_level_mtls {
        if port_number(port).is_none() {
            report.bad_value(&format!("spec.portLevelMtls.{port}"), port, "a port of the workload, from 1 to 65535");
        }
        if mtls.mode() == MutualTlsMode::Unset && mtls.mode.is_none() {
            report.missing(
                &format!("spec.portLevelMtls.{port}.mode"),
                &format!("one of {}", MutualTlsMode::KNOWN.join(", ")),
            );
        }
    }
}

/// Labels that can never be carried by a pod.
pub(super) fn selector(selector: Option<&WorkloadSelector>, report: &mut Report) {
    for (key, value) in selector.iter().flat_map(|selector| &selector.match_labels) {
        for text in [key, value] {
            if text.contains('*') {
                let path = format!("spec.selector.matchLabels.{key}");
                report.bad_value(&path, text, "an exact label; wildcards are not supported");
            }
        }
        if key.is_empty() {
            report.bad_value("spec.selector.matchLabels", key, "a label key that is not empty");
        }
    }
}

/// A decimal port from 1 to 65535, without sign or leading blanks.
pub(super) fn port_number(text: &str) -> Option<u16> {
    let is_decimal = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_decimal && *port > 0)
}

/// The nearest of some names, quoted for a text.
pub(super) fn nearest_name(name: &str, names: &[&str]) -> Option<String> {
    nearest(name, names.iter().copied()).map(str::to_owned)
}
