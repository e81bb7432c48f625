//! `baggage`: which workload is at the other end, for metric labels; never for authorization.

use std::fmt::Write as _;

use http::{HeaderMap, HeaderValue};

/// The name of the header.
const NAME: &str = "baggage";

/// The longest header that is read; the eight members that are known need a tenth of it.
const LONGEST: usize = 8 << 10;

/// The longest value of a member that is kept: Kubernetes names end at 253 characters, cloud regions long before.
const LONGEST_VALUE: usize = 256;

/// The workload kinds whose `k8s.<kind>.name` is the workload's name.
const KINDS: [&str; 4] = ["deployment", "cronjob", "pod", "job"];

/// A workload as its proxy describes it, in the form of [W3C baggage](https://www.w3.org/TR/baggage/).
///
/// Members that are empty, or that would need escaping, are left out; unknown ones are ignored.
///
/// ```
/// use hbone::Baggage;
/// let baggage = Baggage { namespace: "shop".into(), workload_name: "cart".into(), ..Baggage::default() };
/// assert_eq!(baggage.to_string(), "k8s.namespace.name=shop,k8s.deployment.name=cart");
/// assert_eq!(Baggage::parse(&baggage.to_string()), baggage);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: String,
    /// `k8s.namespace.name`.
    pub namespace: String,
    /// The `<kind>` of `k8s.<kind>.name`: deployment, cronjob, pod or job.
    pub workload_kind: String,
    /// `k8s.<kind>.name`.
    pub workload_name: String,
    /// `service.name`: the canonical name.
    pub service_name: String,
    /// `service.version`: the canonical revision.
    pub service_version: String,
    /// `cloud.region`.
    pub region: String,
    /// `cloud.availability_zone`.
    pub zone: String,
}

impl Default for Baggage {
    /// An empty description of a deployment.
    fn default() -> Self {
        Self {
            cluster: String::new(),
            namespace: String::new(),
            workload_kind: KINDS[0].to_owned(),
            workload_name: String::new(),
            service_name: String::new(),
            service_version: String::new(),
            region: String::new(),
            zone: String::new(),
        }
    }
}

impl Baggage {
    /// Reads the members that are known; anything malformed is skipped.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut baggage = Self::default();
        if text.len() <= LONGEST {
            text.split(',').for_each(|member| baggage.take_member(member));
        }
        baggage
    }

    /// Reads all `baggage` headers of a message; empty when there is none.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut baggage = Self::default();
        let texts = headers.get_all(NAME).iter().filter_map(|value| value.to_str().ok());
        for text in texts.filter(|text| text.len() <= LONGEST) {
            text.split(',').for_each(|member| baggage.take_member(member));
        }
        baggage
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().iter().all(|(_, value)| value.is_empty())
    }

    pub(crate) fn insert_into(&self, headers: &mut HeaderMap) {
        let text = self.to_string();
        if let Ok(value) = HeaderValue::try_from(text)
            && !value.is_empty()
        {
            headers.insert(NAME, value);
        }
    }

    fn take_member(&mut self, member: &str) {
        // Properties after a semicolon are allowed, and nobody uses them.
        let member = member.split(';').next().unwrap_or_default();
        let Some((key, value)) = member.split_once('=') else { return };
        let (key, value) = (key.trim(), value.trim());
        if !is_plain(value) {
            return;
        }
        let kind = key.strip_prefix("k8s.").and_then(|rest| rest.strip_suffix(".name"));
        let field = match key {
            "k8s.cluster.name" => &mut self.cluster,
            "k8s.namespace.name" => &mut self.namespace,
            "service.name" => &mut self.service_name,
            "service.version" => &mut self.service_version,
            "cloud.region" => &mut self.region,
            "cloud.availability_zone" => &mut self.zone,
            _ => match kind.filter(|kind| KINDS.contains(kind)) {
                Some(kind) => {
                    kind.clone_into(&mut self.workload_kind);
                    &mut self.workload_name
                }
                None => return,
            },
        };
        value.clone_into(field);
    }

    fn members(&self) -> [(&'static str, &str); 7] {
        [
            ("k8s.cluster.name", &self.cluster),
            ("k8s.namespace.name", &self.namespace),
            ("", &self.workload_name),
            ("service.name", &self.service_name),
            ("service.version", &self.service_version),
            ("cloud.region", &self.region),
            ("cloud.availability_zone", &self.zone),
        ]
    }
}

impl std::fmt::Display for Baggage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut separator = "";
        for (key, value) in self.members() {
            if value.is_empty() || !is_plain(value) {
                continue;
            }
            f.write_str(separator)?;
            match key {
                "" if KINDS.contains(&self.workload_kind.as_str()) => write!(f, "k8s.{}.name", self.workload_kind)?,
                "" => write!(f, "k8s.{}.name", KINDS[0])?,
                key => f.write_str(key)?,
            }
            f.write_char('=')?;
            f.write_str(value)?;
            separator = ",";
        }
        Ok(())
    }
}

/// Whether a value may stand in the header as it is (W3C's `baggage-octet`), and is no longer than anyone needs.
fn is_plain(value: &str) -> bool {
    let is_octet = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'\\');
    value.len() <= LONGEST_VALUE && value.bytes().all(is_octet)
}
