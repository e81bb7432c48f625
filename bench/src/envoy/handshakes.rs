//! With which cipher suite the connections of an Envoy really were encrypted, as it counts them itself.

use std::collections::BTreeMap;

use serde::Serialize;

/// What an Envoy is asked for, at its port [`super::ADMIN`].
pub const STATS: &str = "/stats?usedonly&filter=ssl%5C.ciphers%5C.";

/// The cipher suite of the mesh's own connections, and of all that is compared with it.
pub const EXPECTED_CIPHER: &str = "TLS_AES_128_GCM_SHA256";

/// The mark before the name of a cipher suite, in the names of counters.
const MARK: &str = ".ssl.ciphers.";

/// Handshakes by cipher suite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Handshakes(BTreeMap<String, u64>);

/// What is known of the encryption of one mode.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// Handshakes by cipher suite, of each Envoy.
    pub ciphers: BTreeMap<String, Handshakes>,
    /// Why the mode is not encrypted as the mesh is, or why nobody knows; absent when it is.
    pub differs: Option<String>,
}

impl Handshakes {
    /// Reads [`STATS`]; the listeners and clusters of an Envoy are added up.
    #[must_use]
    pub fn read(stats: &str) -> Self {
        let mut found = BTreeMap::new();
        for (name, count) in stats.lines().filter_map(|line| line.rsplit_once(": ")) {
            if let (Some((_, cipher)), Ok(count @ 1..)) = (name.rsplit_once(MARK), count.trim().parse::<u64>()) {
                *found.entry(cipher.to_owned()).or_default() += count;
            }
        }
        Self(found)
    }
}

impl std::fmt::Display for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(cipher, count)| format!("{count} × {cipher}")).collect();
        if each.is_empty() { f.write_str("no handshake") } else { f.write_str(&each.join(", ")) }
    }
}

impl Tls {
    /// Judges what each Envoy said; [`Err`] says why one did not.
    #[must_use]
    pub fn judge(said: BTreeMap<String, Result<Handshakes, String>>) -> Self {
        let mut tls = Self::default();
        let mut complaints = Vec::new();
        for (proxy, handshakes) in said {
            match handshakes {
                Ok(handshakes) => {
                    if !handshakes.0.keys().eq([EXPECTED_CIPHER]) {
                        complaints.push(format!("{proxy} made {handshakes}, expected {EXPECTED_CIPHER} alone"));
                    }
                    tls.ciphers.insert(proxy, handshakes);
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
        let each: Vec<String> = self.ciphers.iter().map(|(proxy, made)| format!("{proxy}: {made}")).collect();
        f.write_str(&each.join("; "))
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
