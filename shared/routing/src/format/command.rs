//! What a format can ask for.

use std::borrow::Cow;
use std::fmt;
use std::mem::discriminant;

/// An operator of a [format](crate::Format), named like Envoy's.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "Envoy's documentation of operators says what each of them is")]
pub enum Command {
    Req(HeaderNames),
    ReqWithoutQuery(HeaderNames),
    Resp(HeaderNames),
    Trailer(HeaderNames),
    /// With how the time is written, in the style of `strftime`; RFC 3339 with milliseconds otherwise.
    StartTime(Option<Box<str>>),
    /// With whether its spaces are kept.
    ResponseCodeDetails(bool),
    DynamicMetadata(MetadataPath),
    UpstreamMetadata(MetadataPath),
    ClusterMetadata(MetadataPath),
    FilterState(Box<str>, FilterStateForm),
    Protocol,
    ResponseCode,
    ConnectionTerminationDetails,
    ResponseFlags,
    BytesReceived,
    BytesSent,
    Duration,
    RequestDuration,
    ResponseDuration,
    ResponseTxDuration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamClusterRaw,
    UpstreamLocalAddress,
    UpstreamTransportFailureReason,
    UpstreamRequestAttemptCount,
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamDirectRemoteAddress,
    DownstreamDirectRemoteAddressWithoutPort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    DownstreamPeerUriSan,
    DownstreamLocalUriSan,
    RequestedServerName,
    RouteName,
    VirtualClusterName,
    Hostname,
    StreamId,
    TraceId,
}

/// A header, and another one to take where there is none of the first; in lower case.
///
/// Of several values the first counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderNames {
    main: Box<str>,
    alternative: Option<Box<str>>,
}

/// Where a value is: in what a filter or a control plane tells, at the end of a list of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MetadataPath {
    /// Under which name it is told.
    pub filter: Box<str>,
    /// The keys that lead to the value; none for all that is told.
    pub path: Vec<Box<str>>,
}

/// How an object that filters share is written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FilterStateForm {
    /// As a text.
    Plain,
    /// As JSON.
    #[default]
    Typed,
    /// One of its fields.
    Field(Box<str>),
}

/// How an operator's argument becomes a command.
enum Make {
    /// There is none.
    Alone(Command),
    Headers(fn(HeaderNames) -> Command),
    Time,
    Details,
    /// With whether a length may follow.
    Metadata(fn(MetadataPath) -> Command, bool),
    FilterState,
}

/// Every operator.
const OPERATORS: &[(&str, Make)] = &[
    ("REQ", Make::Headers(Command::Req)),
    ("REQ_WITHOUT_QUERY", Make::Headers(Command::ReqWithoutQuery)),
    ("RESP", Make::Headers(Command::Resp)),
    ("TRAILER", Make::Headers(Command::Trailer)),
    ("START_TIME", Make::Time),
    ("RESPONSE_CODE_DETAILS", Make::Details),
    ("DYNAMIC_METADATA", Make::Metadata(Command::DynamicMetadata, true)),
    ("UPSTREAM_METADATA", Make::Metadata(Command::UpstreamMetadata, false)),
    ("CLUSTER_METADATA", Make::Metadata(Command::ClusterMetadata, false)),
    ("FILTER_STATE", Make::FilterState),
    ("PROTOCOL", Make::Alone(Command::Protocol)),
    ("RESPONSE_CODE", Make::Alone(Command::ResponseCode)),
    ("CONNECTION_TERMINATION_DETAILS", Make::Alone(Command::ConnectionTerminationDetails)),
    ("RESPONSE_FLAGS", Make::Alone(Command::ResponseFlags)),
    ("BYTES_RECEIVED", Make::Alone(Command::BytesReceived)),
    ("BYTES_SENT", Make::Alone(Command::BytesSent)),
    ("DURATION", Make::Alone(Command::Duration)),
    ("REQUEST_DURATION", Make::Alone(Command::RequestDuration)),
    ("RESPONSE_DURATION", Make::Alone(Command::ResponseDuration)),
    ("RESPONSE_TX_DURATION", Make::Alone(Command::ResponseTxDuration)),
    ("UPSTREAM_HOST", Make::Alone(Command::UpstreamHost)),
    ("UPSTREAM_CLUSTER", Make::Alone(Command::UpstreamCluster)),
    ("UPSTREAM_CLUSTER_RAW", Make::Alone(Command::UpstreamClusterRaw)),
    ("UPSTREAM_LOCAL_ADDRESS", Make::Alone(Command::UpstreamLocalAddress)),
    ("UPSTREAM_TRANSPORT_FAILURE_REASON", Make::Alone(Command::UpstreamTransportFailureReason)),
    ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Make::Alone(Command::UpstreamRequestAttemptCount)),
    ("DOWNSTREAM_REMOTE_ADDRESS", Make::Alone(Command::DownstreamRemoteAddress)),
    ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Make::Alone(Command::DownstreamRemoteAddressWithoutPort)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Make::Alone(Command::DownstreamDirectRemoteAddress)),
    ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Make::Alone(Command::DownstreamDirectRemoteAddressWithoutPort)),
    ("DOWNSTREAM_LOCAL_ADDRESS", Make::Alone(Command::DownstreamLocalAddress)),
    ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Make::Alone(Command::DownstreamLocalAddressWithoutPort)),
    ("DOWNSTREAM_LOCAL_PORT", Make::Alone(Command::DownstreamLocalPort)),
    ("DOWNSTREAM_PEER_URI_SAN", Make::Alone(Command::DownstreamPeerUriSan)),
    ("DOWNSTREAM_LOCAL_URI_SAN", Make::Alone(Command::DownstreamLocalUriSan)),
    ("REQUESTED_SERVER_NAME", Make::Alone(Command::RequestedServerName)),
    ("ROUTE_NAME", Make::Alone(Command::RouteName)),
    ("VIRTUAL_CLUSTER_NAME", Make::Alone(Command::VirtualClusterName)),
    ("HOSTNAME", Make::Alone(Command::Hostname)),
    ("STREAM_ID", Make::Alone(Command::StreamId)),
    ("TRACE_ID", Make::Alone(Command::TraceId)),
];

/// The parameter of the details of a response that keeps their spaces.
const ALLOW_WHITESPACES: &str = "ALLOW_WHITESPACES";

impl Command {
    /// The operator called `name` with what is in its parentheses; empty where there are none.
    pub(super) fn new(name: &str, argument: &str, has_length: bool) -> Result<Self, &'static str> {
        let (_, make) = OPERATORS.iter().find(|(known, _)| *known == name).ok_or("is unknown")?;
        if has_length && !make.allows_length() {
            return Err("takes no length");
        }
        make.command(argument)
    }

    /// The value as it is written: without spaces where Envoy has none, and cut.
    pub(super) fn tidy<'v>(&self, value: Cow<'v, str>, max_length: Option<usize>) -> Cow<'v, str> {
        let separators: &[char] = match self {
            Self::ResponseCodeDetails(false) => &[' ', '\t', '\x0c', '\x0b', '\n', '\r'],
            Self::UpstreamTransportFailureReason => &[' '],
            _ => &[],
        };
        let value = if value.contains(separators) { Cow::Owned(value.replace(separators, "_")) } else { value };
        match max_length.map(|length| value.floor_char_boundary(length)) {
            Some(end) if end < value.len() => Cow::Owned(value.get(..end).unwrap_or_default().to_owned()),
            _ => value,
        }
    }

    /// Whether its values are numbers in JSON.
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::ResponseCode
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Duration
                | Self::RequestDuration
                | Self::ResponseDuration
                | Self::ResponseTxDuration
                | Self::UpstreamRequestAttemptCount
                | Self::DownstreamLocalPort
        )
    }

    fn argument(&self) -> String {
        match self {
            Self::Req(names) | Self::ReqWithoutQuery(names) | Self::Resp(names) | Self::Trailer(names) => {
                let alternative = names.alternative.as_ref().map(|name| format!("?{name}")).unwrap_or_default();
                format!("{}{alternative}", names.main)
            }
            Self::StartTime(format) => format.as_deref().unwrap_or_default().to_owned(),
            Self::ResponseCodeDetails(keeps_spaces) => {
                if *keeps_spaces {
                    ALLOW_WHITESPACES.to_owned()
                } else {
                    String::new()
                }
            }
            Self::DynamicMetadata(path) | Self::UpstreamMetadata(path) | Self::ClusterMetadata(path) => {
                path.path.iter().fold(path.filter.to_string(), |written, key| format!("{written}:{key}"))
            }
            Self::FilterState(key, FilterStateForm::Plain) => format!("{key}:PLAIN"),
            Self::FilterState(key, FilterStateForm::Typed) => format!("{key}:TYPED"),
            Self::FilterState(key, FilterStateForm::Field(field)) => format!("{key}:FIELD:{field}"),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_this = |make: &Make| discriminant(&make.example()) == discriminant(self);
        let name = OPERATORS.iter().find(|(_, make)| is_this(make)).map_or("", |(name, _)| name);
        let argument = self.argument();
        if argument.is_empty() { f.write_str(name) } else { write!(f, "{name}({argument})") }
    }
}

impl HeaderNames {
    /// What `value_of` the first of the headers that is there says.
    pub fn find<T>(&self, mut value_of: impl FnMut(&str) -> Option<T>) -> Option<T> {
        value_of(&self.main).or_else(|| value_of(self.alternative.as_ref()?))
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut names = text.split('?');
        let main = names.next().unwrap_or_default();
        let alternative = names.next().filter(|name| !name.is_empty());
        if names.next().is_some() {
            return Err("has more than one alternative");
        }
        if ![Some(main), alternative].into_iter().flatten().all(is_header_name) {
            return Err("names no header");
        }
        let lower = |name: &str| name.to_ascii_lowercase().into_boxed_str();
        Ok(Self { main: lower(main), alternative: alternative.map(lower) })
    }
}

impl Make {
    fn command(&self, argument: &str) -> Result<Command, &'static str> {
        match self {
            Self::Alone(_) if !argument.is_empty() => Err("takes no parameters"),
            Self::Headers(_) | Self::Metadata(..) if argument.is_empty() => Err("needs parameters"),
            Self::Alone(command) => Ok(command.clone()),
            Self::Headers(make) => HeaderNames::parse(argument).map(make),
            Self::Time if has_newline(argument) => Err("has a line break"),
            Self::Time => Ok(Command::StartTime((!argument.is_empty()).then(|| argument.into()))),
            Self::Details => Ok(Command::ResponseCodeDetails(argument == ALLOW_WHITESPACES)),
            Self::Metadata(make, _) => {
                let mut keys = argument.split(':').map(Box::from);
                Ok(make(MetadataPath { filter: keys.next().unwrap_or_default(), path: keys.collect() }))
            }
            Self::FilterState => filter_state(argument),
        }
    }

    fn allows_length(&self) -> bool {
        matches!(self, Self::Headers(_) | Self::Metadata(_, true) | Self::FilterState)
    }

    /// A command of this kind.
    fn example(&self) -> Command {
        match self {
            Self::Alone(command) => command.clone(),
            Self::Headers(make) => make(HeaderNames::default()),
            Self::Time => Command::StartTime(None),
            Self::Details => Command::ResponseCodeDetails(false),
            Self::Metadata(make, _) => make(MetadataPath::default()),
            Self::FilterState => Command::FilterState(Box::default(), FilterStateForm::default()),
        }
    }
}

fn filter_state(argument: &str) -> Result<Command, &'static str> {
    let mut parts = argument.split(':');
    let key = parts.next().filter(|key| !key.is_empty()).ok_or("needs a key")?;
    let form = parts.next().unwrap_or_default();
    let field = parts.next().filter(|field| !field.is_empty());
    let form = match (form, field) {
        ("PLAIN", None) => FilterStateForm::Plain,
        ("" | "TYPED", None) => FilterStateForm::Typed,
        ("FIELD", Some(field)) => FilterStateForm::Field(field.into()),
        ("FIELD", None) => return Err("needs a field"),
        ("" | "PLAIN" | "TYPED", Some(_)) => return Err("takes no field"),
        _ => return Err("is none of PLAIN, TYPED and FIELD"),
    };
    Ok(Command::FilterState(key.into(), form))
}

/// Whether it may be a header's name, or that of a pseudo header; the empty one is of a header that is never there.
fn is_header_name(name: &str) -> bool {
    let plain = name.strip_prefix(':').unwrap_or(name);
    plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Whether a format of time makes a line break: `%n`, with flags, a width or a modifier between the two.
fn has_newline(format: &str) -> bool {
    format.split('%').skip(1).any(|conversion| {
        let rest =
            conversion.trim_start_matches(['-', '_', '0', '^', '#']).trim_start_matches(|c| ('1'..='9').contains(&c));
        rest.strip_prefix(['E', 'O']).unwrap_or(rest).starts_with('n')
    })
}
