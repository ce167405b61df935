//! The settings of `serve` and `dev`: defaults < file < environment < flag.
//! Secrets come from the environment or from files, never from the command line, which every user of the machine can read.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use ipnet::IpNet;
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::environment::parse_boolean;
use crate::exit::{Code, Failure};

/// Where a server listens unless told otherwise.
const DEFAULT_LISTEN: &str = "127.0.0.1:4840";

/// More threads than any machine has cores for.
const MAX_THREADS: usize = 1024;
/// What a wrong address should have been.
const ADDRESS_FORM: &str = "an IP address and a port, like 127.0.0.1:4840";

/// What can be set by flag, environment and file; the same names everywhere (`--public-url`, `COUNTERSIGN_PUBLIC_URL`,
/// `public_url`).
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    /// The address to listen on; port 0 picks a free one [default: 127.0.0.1:4840]
    #[arg(long, env = "COUNTERSIGN_LISTEN", value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(deserialize_with = "address_in_file")]
    pub(crate) listen: Option<SocketAddr>,

    /// The folder of the embedded store and, unless given elsewhere, the master key
    #[arg(long, env = "COUNTERSIGN_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,

    /// The file with the master key, which nobody else may read [default: master.key in the data folder]. The key itself can
    /// stand in the environment as COUNTERSIGN_MASTER_KEY
    #[arg(long, env = "COUNTERSIGN_MASTER_KEY_FILE", value_name = "FILE")]
    pub(crate) master_key_file: Option<PathBuf>,

    /// Where senders and receivers reach this authority: the issuer of JWTs [default: the address it listens on]
    #[arg(long, env = "COUNTERSIGN_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<String>,

    /// The address for /metrics [default: the listening address where that is loopback, else none]
    #[arg(long, env = "COUNTERSIGN_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = parse_address)]
    #[serde(deserialize_with = "address_in_file")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// The certificate chain for TLS, PEM
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_CERTIFICATE",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// The private key for TLS, PEM
    #[arg(
        long,
        env = "COUNTERSIGN_TLS_KEY",
        value_name = "FILE",
        requires = "tls_certificate"
    )]
    pub(crate) tls_key: Option<PathBuf>,

    /// Allows plain HTTP on an address that is not loopback, for instance behind a proxy that speaks TLS
    #[arg(long, env = "COUNTERSIGN_INSECURE_HTTP", num_args = 0..=1, default_missing_value = "true", value_parser = parse_boolean, value_name = "BOOL")]
    pub(crate) insecure_http: Option<bool>,

    /// The addresses and ranges of proxies whose X-Forwarded-For is believed, separated by commas, like 10.0.0.1, 10.1.0.0/16
    #[arg(long, env = "COUNTERSIGN_TRUSTED_PROXIES", value_name = "ADDRESSES")]
    pub(crate) trusted_proxies: Option<Addresses>,

    /// How many threads answer requests [default: one per core]
    #[arg(long, env = "COUNTERSIGN_THREADS", value_name = "N")]
    pub(crate) threads: Option<usize>,

    /// Maximum memory for the token index, in MiB. A million tokens take about 200 MiB. With 0, each look-up reads the database [default: a quarter of the memory, at most 2048]
    #[arg(long, env = "COUNTERSIGN_TOKEN_INDEX_MIB", value_name = "MIB")]
    pub(crate) token_index_mib: Option<u64>,

    /// How many failed authentications of one address are answered in 10 s before the rest get 429 [default: 20]
    #[arg(long, env = "COUNTERSIGN_MAX_AUTH_FAILURES", value_name = "N")]
    pub(crate) max_auth_failures: Option<u32>,

    /// How many machine keys an instance may show again in a minute before it answers 429; 0 shows none [default: 10]
    #[arg(long, env = "COUNTERSIGN_MAX_REVEALS", value_name = "N")]
    pub(crate) max_reveals: Option<u32>,

    /// What to log: a level, or directives like `info,countersign::verification=debug` [default: info]
    #[arg(long, env = "COUNTERSIGN_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,

    /// How to write the log: `text` or `json` [default: text]
    #[arg(long, env = "COUNTERSIGN_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// An OpenTelemetry collector that receives a trace of each request, by OTLP over HTTP, like http://127.0.0.1:4318
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub(crate) otlp_endpoint: Option<String>,

    /// Whether the endpoint came from the variable, which other programs share.
    #[arg(skip)]
    #[serde(skip)]
    pub(crate) is_otlp_endpoint_shared: bool,

    /// A file with these settings, TOML; flags and environment come first
    #[arg(long, env = "COUNTERSIGN_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// A file that receives the port as soon as the server listens
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub(crate) port_file: Option<PathBuf>,
}

/// A list of addresses and ranges: text with commas or white space between them, or, in a file, a list of texts.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "AddressesInFile")]
pub(crate) struct Addresses(pub(crate) Vec<IpNet>);

#[derive(Deserialize)]
#[serde(untagged)]
enum AddressesInFile {
    Text(String),
    List(Vec<String>),
}

impl FromStr for Addresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let texts = text
            .split([',', ' ', '\t', '\n'])
            .filter(|text| !text.is_empty());
        let address = |text: &str| {
            let range = text
                .parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            range.map_err(|_| format!("'{text}' is not an IP address or range; separate them with commas, like 10.0.0.1, 10.1.0.0/16"))
        };
        texts.map(address).collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<AddressesInFile> for Addresses {
    type Error = String;

    fn try_from(found: AddressesInFile) -> Result<Self, String> {
        match found {
            AddressesInFile::Text(text) => text.parse(),
            AddressesInFile::List(texts) => texts.join(",").parse(),
        }
    }
}

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Settings {
    /// Fills what flags and environment leave open from the file, if one is named.
    pub(crate) fn with_file(self) -> Result<Self, Failure> {
        let Some(path) = self.config.clone() else {
            return self.checked();
        };
        let text = fs::read_to_string(&path).map_err(|error| {
            Failure::new(
                Code::Settings,
                format!("cannot read {}: {error}", path.display()),
                "--config names a TOML file",
            )
        })?;
        let file: Self = toml::from_str(&text).map_err(|error| {
            let names =
                "the keys are the flags' names with underscores; see docs/reference/config.md";
            // A wrong value is named by its line: the parser's message has only the value.
            let start = error.span().map_or(0, |span| span.start);
            let number = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
            let line = text.lines().nth(number - 1).unwrap_or_default();
            let key = line
                .split_once('=')
                .map(|(key, _)| format!(", {}", key.trim()))
                .unwrap_or_default();
            Failure::new(
                Code::Settings,
                format!(
                    "{}, line {number}{key}: {}",
                    path.display(),
                    error.message()
                ),
                names,
            )
        })?;
        self.over(file).checked()
    }

    fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            data: self.data.or(below.data),
            master_key_file: self.master_key_file.or(below.master_key_file),
            public_url: self.public_url.or(below.public_url),
            admin_listen: self.admin_listen.or(below.admin_listen),
            tls_certificate: self.tls_certificate.or(below.tls_certificate),
            tls_key: self.tls_key.or(below.tls_key),
            insecure_http: self.insecure_http.or(below.insecure_http),
            trusted_proxies: self.trusted_proxies.or(below.trusted_proxies),
            threads: self.threads.or(below.threads),
            token_index_mib: self.token_index_mib.or(below.token_index_mib),
            max_auth_failures: self.max_auth_failures.or(below.max_auth_failures),
            max_reveals: self.max_reveals.or(below.max_reveals),
            log: self.log.or(below.log),
            log_format: self.log_format.or(below.log_format),
            otlp_endpoint: self.otlp_endpoint.or(below.otlp_endpoint),
            is_otlp_endpoint_shared: self.is_otlp_endpoint_shared,
            config: self.config,
            port_file: self.port_file,
        }
    }

    fn checked(self) -> Result<Self, Failure> {
        if let Some(url) = &self.public_url {
            check_public_url(url)?;
        }
        if self.tls_certificate.is_some() != self.tls_key.is_some() {
            return Err(Failure::new(
                Code::Settings,
                "TLS needs a certificate and its key, and only one of them was given",
                "give both tls_certificate and tls_key, or neither",
            ));
        }
        let threads = self.threads.unwrap_or(1);
        if !(1..=MAX_THREADS).contains(&threads) {
            return Err(Failure::new(
                Code::Settings,
                format!("threads cannot be {threads}"),
                format!("give 1 to {MAX_THREADS}, or leave it out for one per core"),
            ));
        }
        if self.max_auth_failures == Some(0) {
            return Err(Failure::new(
                Code::Settings,
                "max_auth_failures cannot be 0: then nobody would learn that a key is wrong",
                "give 1 or more, or leave it out for 20",
            ));
        }
        let is_open = !self.listen().ip().is_loopback() && self.tls_certificate.is_none();
        if is_open && !self.insecure_http.unwrap_or(false) {
            return Err(Failure::new(
                Code::Settings,
                format!(
                    "{} is not loopback, and plain HTTP would show every key on the network",
                    self.listen()
                ),
                "give --tls-certificate and --tls-key, or --insecure-http where a proxy in front speaks TLS",
            ));
        }
        if let Some(admin) = self.admin_listen.filter(|admin| !admin.ip().is_loopback())
            && !self.insecure_http.unwrap_or(false)
        {
            return Err(Failure::new(
                Code::Settings,
                format!("{admin} is not loopback, and the metrics are shown in plain HTTP"),
                "listen on 127.0.0.1, or give --insecure-http where the network is private",
            ));
        }
        Ok(self)
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| DEFAULT_LISTEN.parse().expect("the default is an address"))
    }

    /// The folder of the embedded store.
    pub(crate) fn data_folder(&self) -> Result<PathBuf, Failure> {
        self.data.clone().ok_or_else(|| {
            Failure::new(
                Code::Settings,
                "no data folder was named",
                "give --data DIR or COUNTERSIGN_DATA, the folder that `countersign init` made",
            )
        })
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("write {ADDRESS_FORM}"))
}

/// An address in the file, where somebody may have written a bare port.
fn address_in_file<'de, D: Deserializer<'de>>(value: D) -> Result<Option<SocketAddr>, D::Error> {
    struct Address;
    impl Visitor<'_> for Address {
        type Value = SocketAddr;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(ADDRESS_FORM)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketAddr, E> {
            text.parse()
                .map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
        }
    }
    value.deserialize_str(Address).map(Some)
}

/// Refuses a public URL that no address can be made of by putting a path behind it.
pub(crate) fn check_public_url(url: &str) -> Result<(), Failure> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    let is_wrong =
        |rest: &str| rest.is_empty() || rest.ends_with('/') || rest.contains(['?', '#', ' ']);
    if rest.is_none_or(is_wrong) {
        return Err(Failure::new(
            Code::Settings,
            format!("the public URL '{url}' cannot be used"),
            "write it like https://auth.example.com, without a slash at the end",
        ));
    }
    Ok(())
}
