//! What a request asks for: a delay, a status, a size. Query parameters win over headers.

use std::time::Duration;

use http::{HeaderMap, StatusCode};

/// Longest delay that is granted.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Largest answer, in bytes.
const MAX_SIZE: u64 = 1 << 30;

/// A parsed request for something special.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// Wait before the answer.
    pub(super) delay: Duration,
    /// Status of the answer.
    pub(super) status: StatusCode,
    /// Size of the answer in bytes, which then holds filler in place of the report.
    pub(super) size: Option<u64>,
}

impl Default for Wish {
    fn default() -> Self {
        Self { delay: Duration::ZERO, status: StatusCode::OK, size: None }
    }
}

impl Wish {
    /// Reads `delay`, `status` and `size` from the query, or `x-echo-delay` and so on from the headers.
    ///
    /// # Errors
    /// A sentence for the client that names the parameter, what was found and what is accepted.
    pub(super) fn parse(query: Option<&str>, headers: &HeaderMap) -> Result<Self, String> {
        let find = |name: &'static str| {
            let from_query = query
                .into_iter()
                .flat_map(|query| query.split('&'))
                .filter_map(|pair| pair.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value));
            let from_header = || headers.get(format!("x-echo-{name}")).and_then(|value| value.to_str().ok());
            from_query.or_else(from_header)
        };
        let mut wish = Self::default();
        if let Some(text) = find("delay") {
            wish.delay = delay(text).ok_or_else(|| refused("delay", text, "a time like 250ms or 2s, at most 60s"))?;
        }
        if let Some(text) = find("status") {
            wish.status = status(text).ok_or_else(|| refused("status", text, "a number from 200 to 599"))?;
        }
        if let Some(text) = find("size") {
            wish.size =
                Some(size(text).ok_or_else(|| refused("size", text, "bytes like 512, 64k or 10m, at most 1g"))?);
        }
        Ok(wish)
    }
}

fn refused(name: &str, found: &str, expected: &str) -> String {
    format!("{name}: {found:?} is not {expected}\n")
}

/// A number of seconds or milliseconds; no unit means milliseconds.
fn delay(text: &str) -> Option<Duration> {
    let (digits, unit) = split_unit(text);
    let amount: u64 = digits.parse().ok()?;
    let delay = match unit {
        "" | "ms" => Duration::from_millis(amount),
        "s" => Duration::from_secs(amount),
        _ => return None,
    };
    (delay <= MAX_DELAY).then_some(delay)
}

fn status(text: &str) -> Option<StatusCode> {
    let status = StatusCode::from_bytes(text.as_bytes()).ok()?;
    (200..600).contains(&status.as_u16()).then_some(status)
}

fn size(text: &str) -> Option<u64> {
    let (digits, unit) = split_unit(text);
    let factor = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor).filter(|size| *size <= MAX_SIZE)
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Wish, String> {
        Wish::parse(Some(query), &HeaderMap::new())
    }

    #[test]
    fn all_three_are_read_from_the_query() {
        let wish = parse("delay=250ms&status=503&size=64k&other=1").unwrap();
        assert_eq!(
            wish,
            Wish { delay: Duration::from_millis(250), status: StatusCode::SERVICE_UNAVAILABLE, size: Some(65536) }
        );
    }

    #[test]
    fn the_query_wins_over_the_headers() {
        let mut headers = HeaderMap::new();
        headers.insert("x-echo-status", "500".parse().unwrap());
        headers.insert("x-echo-delay", "2s".parse().unwrap());
        let wish = Wish::parse(Some("status=204"), &headers).unwrap();
        assert_eq!((wish.status, wish.delay), (StatusCode::NO_CONTENT, Duration::from_secs(2)));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused_by_name() {
        for (query, name) in [
            ("delay=61s", "delay"),
            ("delay=-1", "delay"),
            ("delay=99999999999999999999", "delay"),
            ("status=100", "status"),
            ("status=999", "status"),
            ("status=ok", "status"),
            ("size=2g", "size"),
            ("size=18446744073709551615k", "size"),
            ("size=", "size"),
        ] {
            let refused = parse(query).unwrap_err();
            assert!(refused.starts_with(name), "{query}: {refused}");
        }
    }
}
