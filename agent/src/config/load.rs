//! Loading: the layers laid over each other, every key read once, all problems collected.

use std::collections::BTreeMap;
use std::mem;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml_edit::Value;

use super::check;
use super::collection;
use super::environment::Environment;
use super::file;
use super::flag::{self, FlagValue};
use super::layer::{Assignment, Layer};
use super::origin::{Effective, Origin, Origins};
use super::problem::{ConfigErrors, Problem};
use super::schema::{self, Key, KeyId};
use super::secrets::PeerSecretSource;
use super::settings::{
    ApiConfig, AppConfig, CollectionSettings, Config, EventsConfig, GossipConfig, LogConfig,
    NodeConfig, PeerConfig, ProxyConfig, ReplicationConfig, SyncConfig,
};
use super::value::{Raw, Setting};

/// Where settings come from; the later wins: file, environment, flags.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file named on the command line; without one, the file named by `BASIC_AGENT_CONFIG`, if any. A file that is
    /// named has to exist.
    pub file: Option<PathBuf>,
    /// The variables of the environment.
    pub environment: Environment,
    /// The flags in the order in which they were given.
    pub flags: Vec<FlagValue>,
}

/// A configuration that may be started with.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Where each of them came from.
    pub origins: Origins,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
    /// Where the secret that all agents of the cluster share is to be found.
    pub peer_secret: PeerSecretSource,
}

impl Config {
    /// Reads all sources and checks every value, also against the others.
    ///
    /// # Errors
    /// Everything that is wrong with any of the sources.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
        let mut reader = Reader::new(sources);
        let config = reader.config();
        let Reader {
            mut problems,
            effective,
            effective_of_collections,
            faulty,
            ..
        } = reader;
        let origins = Origins {
            keys: effective,
            collections: effective_of_collections,
        };
        let peer_secret = PeerSecretSource::of(&sources.environment, &config);
        problems.extend(check::conflicts(
            &config,
            &origins,
            &faulty,
            peer_secret.is_given(),
        ));
        match ConfigErrors::of(problems) {
            Some(errors) => Err(errors),
            None => Ok(Loaded {
                config,
                origins,
                file: sources.file(),
                peer_secret,
            }),
        }
    }
}

impl Sources {
    /// Reads only where the API listens, for a client on the same host: it may lack what the agent itself needs, such
    /// as the secret.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, and whatever is wrong with `[api] listen`.
    pub fn api_listen(&self) -> Result<SocketAddr, ConfigErrors> {
        let mut reader = Reader::new(self);
        let listen = reader.required(&schema::API_LISTEN);
        match ConfigErrors::of(reader.problems) {
            Some(errors) => Err(errors),
            None => Ok(listen),
        }
    }

    fn file(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| self.environment.config_file())
    }
}

impl Default for CollectionSettings {
    /// What holds for a collection that is not configured.
    fn default() -> Self {
        Reader::default().collection_settings()
    }
}

/// Gives each key the value of the last source that has one.
#[derive(Default)]
struct Reader {
    /// The collection whose keys are read, if it is not those of all other tables.
    collection: Option<String>,
    /// In order: the later wins.
    assignments: Vec<Assignment>,
    /// The same for each collection, by its name.
    collections: BTreeMap<String, Vec<Assignment>>,
    problems: Vec<Problem>,
    effective: Vec<Effective>,
    effective_of_collections: BTreeMap<String, Vec<Effective>>,
    /// Keys with a refused value, which are not worth comparing with others.
    faulty: Vec<KeyId>,
}

impl Reader {
    fn new(sources: &Sources) -> Self {
        let file = sources
            .file()
            .map(|path| file::read(&path))
            .unwrap_or_default();
        let layers = [file, sources.environment.read(), flag::read(&sources.flags)];
        let mut reader = Self::default();
        for Layer {
            assignments,
            collections,
            problems,
        } in layers
        {
            reader.assignments.extend(assignments);
            for (name, assignments) in collections {
                let earlier = reader.collections.entry(name).or_default();
                earlier.extend(assignments);
            }
            reader.problems.extend(problems);
        }
        reader
    }

    fn config(&mut self) -> Config {
        Config {
            node: NodeConfig {
                cluster: self.required(&schema::NODE_CLUSTER),
                id: self.optional(&schema::NODE_ID),
                data_dir: self.required(&schema::NODE_DATA_DIR),
                labels: self.required(&schema::NODE_LABELS),
            },
            peer: PeerConfig {
                listen: self.required(&schema::PEER_LISTEN),
                advertise: self.optional(&schema::PEER_ADVERTISE),
                seeds: self.required(&schema::PEER_SEEDS),
                secret_file: self.optional(&schema::PEER_SECRET_FILE),
                tls_cert: self.optional(&schema::PEER_TLS_CERT),
                tls_key: self.optional(&schema::PEER_TLS_KEY),
                tls_ca: self.optional(&schema::PEER_TLS_CA),
                insecure: self.required(&schema::PEER_INSECURE),
            },
            gossip: GossipConfig {
                interval: self.required(&schema::GOSSIP_INTERVAL),
                phi: self.required(&schema::GOSSIP_PHI),
            },
            app: AppConfig {
                url: self.required(&schema::APP_URL),
                health: self.required(&schema::APP_HEALTH),
                weight: self.required(&schema::APP_WEIGHT),
                advertise: self.optional(&schema::APP_ADVERTISE),
                probe_interval: self.required(&schema::APP_PROBE_INTERVAL),
                probe_timeout: self.required(&schema::APP_PROBE_TIMEOUT),
            },
            api: ApiConfig {
                listen: self.required(&schema::API_LISTEN),
                watches_max: self.required(&schema::API_WATCHES_MAX),
            },
            proxy: ProxyConfig {
                listen: self.required(&schema::PROXY_LISTEN),
                strategy: self.required(&schema::PROXY_STRATEGY),
                workers: self.required(&schema::PROXY_WORKERS),
                connect_timeout: self.required(&schema::PROXY_CONNECT_TIMEOUT),
                response_timeout: self.required(&schema::PROXY_RESPONSE_TIMEOUT),
                retry_body_max: self.required(&schema::PROXY_RETRY_BODY_MAX),
            },
            replication: ReplicationConfig {
                pull_interval: self.required(&schema::REPLICATION_PULL_INTERVAL),
                push_buffer: self.required(&schema::REPLICATION_PUSH_BUFFER),
                tombstone_age: self.required(&schema::REPLICATION_TOMBSTONE_AGE),
                absent_max: self.required(&schema::REPLICATION_ABSENT_MAX),
            },
            sync: SyncConfig {
                workers: self.required(&schema::SYNC_WORKERS),
                queue_max: self.required(&schema::SYNC_QUEUE_MAX),
                retries: self.required(&schema::SYNC_RETRIES),
                retry_interval: self.required(&schema::SYNC_RETRY_INTERVAL),
                task_timeout: self.required(&schema::SYNC_TASK_TIMEOUT),
            },
            events: EventsConfig {
                command: self.required(&schema::EVENTS_COMMAND),
                webhook: self.optional(&schema::EVENTS_WEBHOOK),
                on: self.required(&schema::EVENTS_ON),
                hooks_on: self.required(&schema::EVENTS_HOOKS_ON),
            },
            log: LogConfig {
                level: self.required(&schema::LOG_LEVEL),
                format: self.required(&schema::LOG_FORMAT),
            },
            collections: self.collections(),
        }
    }

    fn collections(&mut self) -> BTreeMap<String, CollectionSettings> {
        let mut settings = BTreeMap::new();
        for (name, assignments) in mem::take(&mut self.collections) {
            let mut reader = Self {
                collection: Some(name.clone()),
                assignments,
                ..Self::default()
            };
            settings.insert(name.clone(), reader.collection_settings());
            self.problems.append(&mut reader.problems);
            self.effective_of_collections.insert(name, reader.effective);
        }
        settings
    }

    fn collection_settings(&mut self) -> CollectionSettings {
        CollectionSettings {
            merge: self.required(&schema::COLLECTION_MERGE),
            document_max: self.required(&schema::COLLECTION_DOCUMENT_MAX),
            ttl: self.optional(&schema::COLLECTION_TTL),
            history: self.required(&schema::COLLECTION_HISTORY),
            history_age: self.optional(&schema::COLLECTION_HISTORY_AGE),
        }
    }

    /// A key as messages call it.
    fn subject(&self, key: KeyId) -> String {
        match &self.collection {
            Some(name) => format!("{} {}", collection::header(name), key.name),
            None => key.to_string(),
        }
    }

    /// The value of a key that has a default.
    fn required<T: Setting>(&mut self, key: &'static Key<T>) -> T {
        self.optional(key)
            .expect("a key that is always read has a default")
    }

    /// The value of a key, noting what is wrong with any that was given to it. If the last one is wrong the default
    /// stands in, so that reading can go on to the next problem.
    fn optional<T: Setting>(&mut self, key: &'static Key<T>) -> Option<T> {
        let mut last = None;
        for assignment in self.assignments.iter().filter(|a| a.key.id() == key.id()) {
            match key.parse(&assignment.raw) {
                Ok(value) => last = Some((value, assignment.origin.clone())),
                Err(error) => {
                    self.faulty.push(key.id());
                    self.problems.push(Problem {
                        origin: assignment.origin.clone(),
                        subject: Some(self.subject(key.id())),
                        fault: error.into(),
                    });
                }
            }
        }
        let default = || {
            let value = key.parse(&Raw::Text(key.default()?.to_owned()));
            Some((
                value.expect("the schema's defaults are valid"),
                Origin::Default,
            ))
        };
        let (value, origin) = last.or_else(default)?;
        let shown: Value = value.to_toml();
        self.effective.push(Effective {
            key,
            value: shown,
            origin,
        });
        Some(value)
    }
}
