//! With which cipher suite the connections of an Envoy really were encrypted, and how many of them resumed a session, as
//! it counts them itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// What an Envoy is asked for, at its port [`super::ADMIN`].
pub const STATS: &str = "/stats?usedonly&filter=ssl%5C.(ciphers%5C.|session_reused)";

/// The cipher suite of the mesh's own connections, and of all that is compared with it.
pub const EXPECTED_CIPHER: &str = "TLS_AES_128_GCM_SHA256";

/// The mark before the name of a cipher suite, in the names of counters.
const MARK: &str = ".ssl.ciphers.";

/// The end of the names of the counters of handshakes that resumed a session: without certificates, and without proof of
/// having their keys.
const RESUMED: &str = ".ssl.session_reused";

/// The handshakes of an Envoy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// By cipher suite.
    ciphers: BTreeMap<String, u64>,
    resumed: u64,
}

/// What is known of the encryption of one mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Handshakes by cipher suite, of each Envoy.
    pub ciphers: BTreeMap<String, BTreeMap<String, u64>>,
    /// How many of them resumed a session, of each Envoy.
    pub resumed: BTreeMap<String, u64>,
    /// Why the mode is not encrypted as the mesh is, or why nobody knows; absent when it is.
    pub differs: Option<String>,
}

impl Handshakes {
    /// Reads [`STATS`]; the listeners and clusters of an Envoy are added up.
    #[must_use]
    pub fn read(stats: &str) -> Self {
        let mut found = Self::default();
        for (name, count) in stats.lines().filter_map(|line| line.rsplit_once(": ")) {
            let Ok(count @ 1..) = count.trim().parse::<u64>() else { continue };
            if let Some((_, cipher)) = name.rsplit_once(MARK) {
                *found.ciphers.entry(cipher.to_owned()).or_default() += count;
            } else if name.ends_with(RESUMED) {
                found.resumed += count;
            }
        }
        found
    }
}

/// How often each cipher suite was taken.
fn described(ciphers: &BTreeMap<String, u64>) -> String {
    let each: Vec<String> = ciphers.iter().map(|(cipher, count)| format!("{count} × {cipher}")).collect();
    if each.is_empty() { "no handshake".to_owned() } else { each.join(", ") }
}

impl Tls {
    /// Judges what each Envoy said; [`Err`] says why one did not.
    #[must_use]
    pub fn judge(said: BTreeMap<String, Result<Handshakes, String>>) -> Self {
        let mut tls = Self::default();
        let mut complaints = Vec::new();
        for (proxy, handshakes) in said {
            match handshakes {
                Ok(Handshakes { ciphers, resumed }) => {
                    if !ciphers.keys().eq([EXPECTED_CIPHER]) {
                        let made = described(&ciphers);
                        complaints.push(format!("{proxy} made {made}, expected {EXPECTED_CIPHER} alone"));
                    }
                    tls.resumed.insert(proxy.clone(), resumed);
                    tls.ciphers.insert(proxy, ciphers);
                }
                Err(why) => complaints.push(format!("{proxy} did not say: {why}")),
            }
        }
        tls.differs = (!complaints.is_empty()).then(|| complaints.join("; "));
        tls
    }
}

impl std::fmt::Display for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(differs) = &self.differs {
            return write!(f, "NOT ENCRYPTED AS THE MESH IS, or not known to be: {differs}");
        }
        let each = self.ciphers.iter().map(|(proxy, made)| {
            let resumed = self.resumed.get(proxy).copied().unwrap_or_default();
            let resumed = if resumed == 0 { String::new() } else { format!(", of which {resumed} resumed a session") };
            format!("{proxy}: {}{resumed}", described(made))
        });
        f.write_str(&each.collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Envoy 1.40 says it.
    const SAID: &str = "cluster.bytes.ssl.ciphers.TLS_AES_128_GCM_SHA256: 68\n\
        cluster.http.ssl.ciphers.TLS_AES_128_GCM_SHA256: 16\nlistener.0.0.0.0_15443.ssl.ciphers.X: 0\n";

    fn judge(stats: &str) -> Tls {
        Tls::judge([("client".to_owned(), Ok(Handshakes::read(stats)))].into())
    }

    #[test]
    fn handshakes_are_added_up_over_listeners_and_clusters() {
        let tls = judge(SAID);
        assert_eq!((tls.to_string().as_str(), &tls.differs), ("client: 84 × TLS_AES_128_GCM_SHA256", &None));
        assert_eq!(serde_json::to_value(&tls).unwrap()["ciphers"]["client"]["TLS_AES_128_GCM_SHA256"], 84);
    }

    #[test]
    fn what_resumed_a_session_is_told() {
        let tls = judge(&format!("{SAID}cluster.bytes.ssl.session_reused: 60\ncluster.http.ssl.session_reused: 15\n"));
        assert_eq!(tls.to_string(), "client: 84 × TLS_AES_128_GCM_SHA256, of which 75 resumed a session");
        assert_eq!(tls.differs, None);
        assert_eq!(serde_json::to_value(&tls).unwrap()["resumed"]["client"], 75);
    }

    #[test]
    fn another_cipher_none_and_silence_are_told() {
        let other = judge(&format!("{SAID}listener.0.0.0.0_15443.ssl.ciphers.TLS_CHACHA20_POLY1305_SHA256: 3\n"));
        let found = "client made 84 × TLS_AES_128_GCM_SHA256, 3 × TLS_CHACHA20_POLY1305_SHA256, \
                     expected TLS_AES_128_GCM_SHA256 alone";
        assert_eq!(other.differs.as_deref(), Some(found));
        assert!(judge("").differs.is_some_and(|why| why.starts_with("client made no handshake, expected")));
        let silent = Tls::judge([("server".to_owned(), Err("it is gone".to_owned()))].into());
        assert_eq!(silent.differs.as_deref(), Some("server did not say: it is gone"));
        assert!(silent.ciphers.is_empty());
    }
}
