//! The headers of a CONNECT request, one a line.

use hbone::{Baggage, Forwarded, TraceParent};

pub(crate) fn run(bytes: &[u8]) {
    for line in crate::text(bytes).lines() {
        let baggage = Baggage::parse(line);
        assert_eq!(Baggage::parse(&baggage.to_string()), baggage, "{line:?}");
        let forwarded = Forwarded::parse(line);
        assert_eq!(Forwarded::parse(&forwarded.to_string()), forwarded, "{line:?}");
        if let Some(parent) = TraceParent::parse(line) {
            assert_eq!(TraceParent::parse(&parent.to_string()), Some(parent), "{line:?}");
        }
    }
}
