//! The schema: every key with its kind, default, limits, flag and meaning, in the order in which it is shown.
//!
//! A key is declared here and read in `load.rs`, nowhere else. The file parser, the names of environment variables,
//! the flags of `run`, `config show` and `config default` are all derived from [`KEYS`], and from [`COLLECTION_KEYS`]
//! for the tables of which there is one for each collection.

mod collection;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use crate::config::address::{HealthPath, HostPort, HttpUrl};
use crate::config::hook::{CommandLine, EventKinds, HooksOn, WebhookUrl};
use crate::config::log_filter::LogFilter;
use crate::config::name::{ClusterName, NodeName};
use crate::config::settings::{LogFormat, Strategy};
use crate::config::value::{Raw, Setting, ValueError};

pub(super) use collection::{
    COLLECTION_DOCUMENT_MAX, COLLECTION_HISTORY, COLLECTION_HISTORY_AGE, COLLECTION_KEYS,
    COLLECTION_MERGE, COLLECTION_TTL, COLLECTIONS,
};

/// One key whose values are of type `T`.
pub(super) struct Key<T: 'static> {
    id: KeyId,
    initial: Initial,
    limits: Option<(T, T)>,
    flag: Option<&'static str>,
    doc: &'static str,
}

/// Table and name of a key. Displayed as in messages: `[peer] listen`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyId {
    /// The table, such as `peer`.
    pub(crate) table: &'static str,
    /// The name within the table, such as `listen`.
    pub(crate) name: &'static str,
}

/// What a key is when nobody sets it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Initial {
    /// This value, written as an environment variable would hold it.
    Default(&'static str),
    /// No value; the example shows what one looks like.
    Unset { example: &'static str },
}

/// How the flag of a key is written on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FlagShape {
    /// `--flag VALUE`, once.
    One,
    /// `--flag VALUE`, any number of times.
    Many,
    /// `--flag`, or `--flag=false` to take back what an earlier source set.
    Switch,
}

/// A key seen without its type.
pub(crate) trait AnyKey: Sync {
    /// Table and name.
    fn id(&self) -> KeyId;
    /// Value while nobody sets one.
    fn initial(&self) -> Initial;
    /// The flag of `run` that sets it, with its dashes, if it has one of its own.
    fn flag(&self) -> Option<&'static str>;
    /// How that flag is written.
    fn flag_shape(&self) -> FlagShape;
    /// Its meaning, one sentence.
    fn doc(&self) -> &'static str;
    /// Smallest and largest value, where there are such.
    fn limits(&self) -> Option<(String, String)>;
    /// The value as TOML, if it is a good one.
    fn check(&self, raw: &Raw) -> Result<toml_edit::Value, ValueError>;
}

/// Every key but those of collections.
pub(crate) static KEYS: &[&dyn AnyKey] = &[
    &NODE_CLUSTER,
    &NODE_ID,
    &NODE_DATA_DIR,
    &NODE_LABELS,
    &PEER_LISTEN,
    &PEER_ADVERTISE,
    &PEER_SEEDS,
    &PEER_SECRET_FILE,
    &PEER_TLS_CERT,
    &PEER_TLS_KEY,
    &PEER_TLS_CA,
    &PEER_INSECURE,
    &GOSSIP_INTERVAL,
    &GOSSIP_PHI,
    &APP_URL,
    &APP_HEALTH,
    &APP_WEIGHT,
    &APP_ADVERTISE,
    &APP_PROBE_INTERVAL,
    &APP_PROBE_TIMEOUT,
    &API_LISTEN,
    &API_WATCHES_MAX,
    &PROXY_LISTEN,
    &PROXY_STRATEGY,
    &PROXY_WORKERS,
    &PROXY_CONNECT_TIMEOUT,
    &PROXY_RESPONSE_TIMEOUT,
    &PROXY_RETRY_BODY_MAX,
    &REPLICATION_PULL_INTERVAL,
    &REPLICATION_PUSH_BUFFER,
    &REPLICATION_TOMBSTONE_AGE,
    &REPLICATION_ABSENT_MAX,
    &SYNC_WORKERS,
    &SYNC_QUEUE_MAX,
    &SYNC_RETRIES,
    &SYNC_RETRY_INTERVAL,
    &SYNC_TASK_TIMEOUT,
    &EVENTS_COMMAND,
    &EVENTS_WEBHOOK,
    &EVENTS_ON,
    &EVENTS_HOOKS_ON,
    &LOG_LEVEL,
    &LOG_FORMAT,
];

pub(super) static NODE_CLUSTER: Key<ClusterName> = Key::new(
    KeyId {
        table: "node",
        name: "cluster",
    },
    Initial::Default("jobfirst-cluster-1"),
    "Name of the cluster; agents of differently named clusters refuse each other.",
)
.with_flag("--cluster");

pub(super) static NODE_ID: Key<NodeName> = Key::new(
    KeyId { table: "node", name: "id" },
    Initial::Unset { example: "n1" },
    "Name of this node in the cluster; without one, a random name is made at the first start and kept.",
)
.with_flag("--id");

pub(super) static NODE_DATA_DIR: Key<PathBuf> = Key::new(
    KeyId {
        table: "node",
        name: "data_dir",
    },
    Initial::Default("./basic-agent-data"),
    "Directory of identity, keys and data; relative to the working directory.",
)
.with_flag("--data-dir");

pub(super) static NODE_LABELS: Key<BTreeMap<String, String>> = Key::new(
    KeyId {
        table: "node",
        name: "labels",
    },
    Initial::Default(""),
    "Labels that other nodes see, at most 16; { zone = \"a\" } in a file, zone=a elsewhere.",
)
.with_flag("--label");

pub(super) static PEER_LISTEN: Key<SocketAddr> = Key::new(
    KeyId {
        table: "peer",
        name: "listen",
    },
    Initial::Default("127.0.0.1:9400"),
    "UDP and TCP address for other agents; the only port that other hosts need.",
)
.with_flag("--peer-listen");

pub(super) static PEER_ADVERTISE: Key<SocketAddr> = Key::new(
    KeyId {
        table: "peer",
        name: "advertise",
    },
    Initial::Unset {
        example: "10.0.0.1:9400",
    },
    "Address that other agents are told; without one, the address listened on.",
)
.with_flag("--advertise");

pub(super) static PEER_SEEDS: Key<Vec<HostPort>> = Key::new(
    KeyId { table: "peer", name: "seeds" },
    Initial::Default(""),
    "Peer ports of other agents, any one of which leads to the whole cluster; host:port, names are resolved again and again.",
)
.with_flag("--seed");

pub(super) static PEER_SECRET_FILE: Key<PathBuf> = Key::new(
    KeyId { table: "peer", name: "secret_file" },
    Initial::Unset { example: "/etc/basic-agent/peer.secret" },
    "File with the secret that all agents of the cluster share, 32 characters or more; BASIC_AGENT_PEER_SECRET goes before it, peer.secret in the data directory after it.",
)
.with_flag("--secret-file");

pub(super) static PEER_TLS_CERT: Key<PathBuf> = Key::new(
    KeyId {
        table: "peer",
        name: "tls_cert",
    },
    Initial::Unset {
        example: "/etc/basic-agent/n1.pem",
    },
    "PEM file with this node's certificate, instead of one that follows from the secret; it names the node by the URI basic-agent://CLUSTER/NODE, or by its id as the first DNS name. A new file is put to use without a restart.",
);

pub(super) static PEER_TLS_KEY: Key<PathBuf> = Key::new(
    KeyId {
        table: "peer",
        name: "tls_key",
    },
    Initial::Unset {
        example: "/etc/basic-agent/n1.key",
    },
    "PEM file with the private key of that certificate.",
);

pub(super) static PEER_TLS_CA: Key<PathBuf> = Key::new(
    KeyId {
        table: "peer",
        name: "tls_ca",
    },
    Initial::Unset {
        example: "/etc/basic-agent/ca.pem",
    },
    "PEM file with the authorities that the certificates of all agents must come from.",
);

pub(super) static PEER_INSECURE: Key<bool> = Key::new(
    KeyId { table: "peer", name: "insecure" },
    Initial::Default("false"),
    "Allow addresses beyond loopback without a shared secret, and an API beyond loopback without a token.",
)
.with_flag("--insecure");

pub(super) static GOSSIP_INTERVAL: Key<Duration> = Key::new(
    KeyId {
        table: "gossip",
        name: "interval",
    },
    Initial::Default("200ms"),
    "Time between two rounds of gossip; the same on every node.",
)
.within(Duration::from_millis(50), Duration::from_secs(1));

pub(super) static GOSSIP_PHI: Key<f64> = Key::new(
    KeyId {
        table: "gossip",
        name: "phi",
    },
    Initial::Default("8.0"),
    "Suspicion at which a silent agent counts as dead; higher is slower and surer.",
)
.within(1.0, 32.0);

pub(super) static APP_URL: Key<HttpUrl> = Key::new(
    KeyId {
        table: "app",
        name: "url",
    },
    Initial::Default("http://127.0.0.1:8080"),
    "The server beside this agent.",
)
.with_flag("--app-url");

pub(super) static APP_HEALTH: Key<HealthPath> = Key::new(
    KeyId {
        table: "app",
        name: "health",
    },
    Initial::Default("/health"),
    "Path that is asked to learn whether the server is healthy.",
)
.with_flag("--app-health");

pub(super) static APP_WEIGHT: Key<u16> = Key::new(
    KeyId {
        table: "app",
        name: "weight",
    },
    Initial::Default("100"),
    "Share of the requests relative to other nodes; 0 takes none.",
)
.within(0, u16::MAX)
.with_flag("--weight");

pub(super) static APP_ADVERTISE: Key<HostPort> = Key::new(
    KeyId {
        table: "app",
        name: "advertise",
    },
    Initial::Unset {
        example: "10.0.0.1:8080",
    },
    "host:port under which other nodes reach the server; without one, that of the url.",
)
.with_flag("--app-advertise");

pub(super) static APP_PROBE_INTERVAL: Key<Duration> = Key::new(
    KeyId {
        table: "app",
        name: "probe_interval",
    },
    Initial::Default("1s"),
    "Time between two health probes.",
)
.within(Duration::from_millis(50), Duration::from_secs(60));

pub(super) static APP_PROBE_TIMEOUT: Key<Duration> = Key::new(
    KeyId {
        table: "app",
        name: "probe_timeout",
    },
    Initial::Default("1s"),
    "Time after which a health probe without an answer has failed.",
)
.within(Duration::from_millis(50), Duration::from_secs(60));

pub(super) static API_LISTEN: Key<SocketAddr> = Key::new(
    KeyId {
        table: "api",
        name: "listen",
    },
    Initial::Default("127.0.0.1:9401"),
    "TCP address of the HTTP API and the page.",
)
.with_flag("--api-listen");

pub(super) static API_WATCHES_MAX: Key<u16> = Key::new(
    KeyId {
        table: "api",
        name: "watches_max",
    },
    Initial::Default("16384"),
    "Watches at once; they have room of their own, so that requests never wait for them.",
)
.within(1, u16::MAX);

pub(super) static PROXY_LISTEN: Key<SocketAddr> = Key::new(
    KeyId {
        table: "proxy",
        name: "listen",
    },
    Initial::Default("127.0.0.1:9402"),
    "TCP address of the proxy that clients talk to.",
)
.with_flag("--proxy-listen");

pub(super) static PROXY_STRATEGY: Key<Strategy> = Key::new(
    KeyId {
        table: "proxy",
        name: "strategy",
    },
    Initial::Default("round-robin"),
    "How the node for a request is chosen.",
)
.with_flag("--strategy");

pub(super) static PROXY_WORKERS: Key<u16> = Key::new(
    KeyId {
        table: "proxy",
        name: "workers",
    },
    Initial::Default("0"),
    "Worker threads of the proxy; 0 stands for one per core.",
)
.within(0, 1024);

pub(super) static PROXY_CONNECT_TIMEOUT: Key<Duration> = Key::new(
    KeyId {
        table: "proxy",
        name: "connect_timeout",
    },
    Initial::Default("1s"),
    "Time to connect to a server before another one is tried.",
)
.within(Duration::from_millis(10), Duration::from_secs(60));

pub(super) static PROXY_RESPONSE_TIMEOUT: Key<Duration> = Key::new(
    KeyId {
        table: "proxy",
        name: "response_timeout",
    },
    Initial::Default("60s"),
    "Time from the end of a request to the head of its response.",
)
.within(Duration::from_millis(100), Duration::from_secs(3600));

pub(super) static PROXY_RETRY_BODY_MAX: Key<ByteSize> = Key::new(
    KeyId {
        table: "proxy",
        name: "retry_body_max",
    },
    Initial::Default("64KiB"),
    "How much of a request body is kept so that the request can be sent again; 0B keeps none.",
)
.within(ByteSize::b(0), ByteSize::mib(16));

pub(super) static REPLICATION_PULL_INTERVAL: Key<Duration> = Key::new(
    KeyId {
        table: "replication",
        name: "pull_interval",
    },
    Initial::Default("1s"),
    "Time between two comparisons with a peer, which find what live pushing missed.",
)
.within(Duration::from_millis(100), Duration::from_secs(10));

pub(super) static REPLICATION_PUSH_BUFFER: Key<ByteSize> = Key::new(
    KeyId {
        table: "replication",
        name: "push_buffer",
    },
    Initial::Default("64MiB"),
    "Memory for changes on their way to peers; a peer further behind is served from disk.",
)
.within(ByteSize::mib(8), ByteSize::gib(4));

pub(super) static REPLICATION_TOMBSTONE_AGE: Key<Duration> = Key::new(
    KeyId {
        table: "replication",
        name: "tombstone_age",
    },
    Initial::Default("24h"),
    "How long a deletion is remembered at least, also once every node has it; the longest of all nodes counts.",
)
.within(Duration::from_secs(1), Duration::from_secs(31_557_600));

pub(super) static REPLICATION_ABSENT_MAX: Key<Duration> = Key::new(
    KeyId {
        table: "replication",
        name: "absent_max",
    },
    Initial::Default("7d"),
    "How long a node may be away, while most are here, before deletions are no longer remembered for it; when it comes back it takes over a snapshot, and writes that only it had are kept aside.",
)
.within(Duration::from_secs(2), Duration::from_secs(315_576_000));

pub(super) static SYNC_WORKERS: Key<u16> = Key::new(
    KeyId {
        table: "sync",
        name: "workers",
    },
    Initial::Default("5"),
    "How many tasks of POST /v1/sync/tasks are carried out at once.",
)
.within(1, 256);

pub(super) static SYNC_QUEUE_MAX: Key<u16> = Key::new(
    KeyId {
        table: "sync",
        name: "queue_max",
    },
    Initial::Default("2000"),
    "How many tasks may wait; a tenth more is open to those that overtake others, and above it they are refused with 429.",
)
.within(1, 20_000);

pub(super) static SYNC_RETRIES: Key<u16> = Key::new(
    KeyId {
        table: "sync",
        name: "retries",
    },
    Initial::Default("3"),
    "How often a task is tried again before it counts as failed; 0 for never.",
)
.within(0, 100);

pub(super) static SYNC_RETRY_INTERVAL: Key<Duration> = Key::new(
    KeyId {
        table: "sync",
        name: "retry_interval",
    },
    Initial::Default("5s"),
    "Time before the first retry; doubled for each further one up to five minutes, and made up to half longer at random.",
)
.within(Duration::from_millis(10), Duration::from_secs(300));

pub(super) static SYNC_TASK_TIMEOUT: Key<Duration> = Key::new(
    KeyId {
        table: "sync",
        name: "task_timeout",
    },
    Initial::Default("30s"),
    "How long one attempt waits for its targets; a target that is known to be down is not waited for.",
)
.within(Duration::from_millis(100), Duration::from_secs(600));

pub(super) static EVENTS_COMMAND: Key<CommandLine> = Key::new(
    KeyId {
        table: "events",
        name: "command",
    },
    Initial::Default(""),
    "Program and arguments that are run for each event, whose JSON is on the standard input; run as they are, without a shell.",
);

pub(super) static EVENTS_WEBHOOK: Key<WebhookUrl> = Key::new(
    KeyId {
        table: "events",
        name: "webhook",
    },
    Initial::Unset {
        example: "http://127.0.0.1:9000/events",
    },
    "URL that the JSON of each event is posted to; http or https.",
);

pub(super) static EVENTS_ON: Key<EventKinds> = Key::new(
    KeyId {
        table: "events",
        name: "on",
    },
    Initial::Default(
        "failed,left,returned,restarted,removed,identity-conflict,gossip-restarted,operator,app-unhealthy,app-healthy",
    ),
    "Kinds of events that command and webhook are told of; `basic-agent events` shows all.",
);

pub(super) static EVENTS_HOOKS_ON: Key<HooksOn> = Key::new(
    KeyId {
        table: "events",
        name: "hooks_on",
    },
    Initial::Default("one-node"),
    "Which agents tell of an event that all see: one-node, or every-node; the same on every node.",
);

pub(super) static LOG_LEVEL: Key<LogFilter> = Key::new(
    KeyId { table: "log", name: "level" },
    Initial::Default("info"),
    "What is logged: off, error, warn, info, debug or trace, or directives such as \"info,basic_sync=debug\".",
)
.with_flag("--log-level");

pub(super) static LOG_FORMAT: Key<LogFormat> = Key::new(
    KeyId {
        table: "log",
        name: "format",
    },
    Initial::Default("text"),
    "How log lines are written: text for people, json for machines.",
)
.with_flag("--log-format");

/// The key at `table` and `name`, if there is one.
pub(super) fn find(table: &str, name: &str) -> Option<&'static dyn AnyKey> {
    KEYS.iter()
        .copied()
        .find(|key| key.id().table == table && key.id().name == name)
}

/// The key of a collection called `name`, if there is one.
pub(super) fn find_of_collection(name: &str) -> Option<&'static dyn AnyKey> {
    COLLECTION_KEYS
        .iter()
        .copied()
        .find(|key| key.id().name == name)
}

/// The keys called `name`, wherever they are.
pub(super) fn homes(name: &str) -> impl Iterator<Item = KeyId> {
    let keys = KEYS.iter().chain(COLLECTION_KEYS);
    keys.map(|key| key.id()).filter(move |id| id.name == name)
}

/// The tables in the order in which they are shown. The collections' tables come after them.
pub(super) fn tables() -> Vec<&'static str> {
    let mut tables: Vec<_> = KEYS.iter().map(|key| key.id().table).collect();
    tables.dedup();
    tables
}

/// The names of the keys of `table`.
pub(super) fn names(table: &str) -> impl Iterator<Item = &'static str> + Clone {
    KEYS.iter()
        .map(|key| key.id())
        .filter(move |id| id.table == table)
        .map(|id| id.name)
}

impl<T> Key<T> {
    const fn new(id: KeyId, initial: Initial, doc: &'static str) -> Self {
        Self {
            id,
            initial,
            limits: None,
            flag: None,
            doc,
        }
    }

    const fn with_flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    const fn within(mut self, min: T, max: T) -> Self
    where
        T: Copy,
    {
        self.limits = Some((min, max));
        self
    }
}

impl<T: Setting> Key<T> {
    /// Table and name.
    pub(super) fn id(&self) -> KeyId {
        self.id
    }

    /// Value while nobody sets one, written as an environment variable would hold it.
    pub(super) fn default(&self) -> Option<&'static str> {
        match self.initial {
            Initial::Default(text) => Some(text),
            Initial::Unset { .. } => None,
        }
    }

    /// Reads a value as this key's kind and holds it to this key's limits.
    pub(super) fn parse(&self, raw: &Raw) -> Result<T, ValueError> {
        let value = match raw {
            Raw::Toml(value) => T::from_toml(value)?,
            Raw::Text(text) => T::from_text(text)?,
        };
        match &self.limits {
            // Written so that a float that is not a number is out of range too.
            Some((min, max)) if !(*min <= value && value <= *max) => Err(ValueError::OutOfRange {
                value: value.to_text(),
                min: min.to_text(),
                max: max.to_text(),
            }),
            _ => Ok(value),
        }
    }
}

impl<T: Setting> AnyKey for Key<T> {
    fn id(&self) -> KeyId {
        self.id
    }

    fn initial(&self) -> Initial {
        self.initial
    }

    fn flag(&self) -> Option<&'static str> {
        self.flag
    }

    fn flag_shape(&self) -> FlagShape {
        T::FLAG_SHAPE
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn limits(&self) -> Option<(String, String)> {
        self.limits
            .as_ref()
            .map(|(min, max)| (min.to_text(), max.to_text()))
    }

    fn check(&self, raw: &Raw) -> Result<toml_edit::Value, ValueError> {
        self.parse(raw).map(|value| value.to_toml())
    }
}

impl KeyId {
    /// The name of the variable that sets this key, such as `BASIC_AGENT_PEER_LISTEN`.
    pub(super) fn variable(self) -> String {
        format!("BASIC_AGENT_{}_{}", self.table, self.name).to_ascii_uppercase()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.table, self.name)
    }
}
