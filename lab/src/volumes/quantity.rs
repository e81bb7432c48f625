//! Amounts as Kubernetes writes them, read as bytes. Pure.
//! [Kubernetes: quantities](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/).

/// Multiples by suffix, the longer suffixes first; without suffix it is bytes.
const UNITS: [(&str, u64); 13] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
    ("", 1),
];

/// Most digits after the point that count.
const DIGITS: usize = 9;

/// The amount in bytes, rounded up to whole ones; `None` for what is no amount, is negative or too large.
///
/// Exponents (`1e6`) are not read: nobody writes a size of a volume like that.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && part.is_empty()) || !is_number(whole) || !is_number(part) {
        return None;
    }
    let part: String = part.chars().chain(std::iter::repeat('0')).take(DIGITS).collect();
    let scaled: u128 = format!("{whole}{part}").parse().ok()?;
    let bytes = scaled.checked_mul(unit.into())?.div_ceil(10_u128.pow(9));
    u64::try_from(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_with_their_units() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1)),
            ("64Mi", Some(64 << 20)),
            ("1Gi", Some(1 << 30)),
            ("500M", Some(500_000_000)),
            ("0.5Gi", Some(1 << 29)),
            (".5k", Some(500)),
            ("1.0000000001", Some(1)),
            ("1.1", Some(2)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("99999999999999999999999999999999999999999Ei", None),
            ("", None),
            (".", None),
            ("Mi", None),
            ("-1Mi", None),
            ("1 Mi", None),
            ("1mi", None),
            ("1..2", None),
            ("٣", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
