//! Which authority a command acts on, and with which key: flags, the environment, and files that nobody else may read.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use countersign_protocol::secret::Secret;

use super::connection::{Connection, DoorConnection, Network};
use super::output;
use crate::environment::variable;
use crate::exit::{Code, Failure};
use crate::folder::refuse_loose_mode;

/// The file of `dev` in the current folder, used where no address, key or data folder is named.
const DEV_ENV_FILE: &str = ".countersign/dev.env";

/// Which authority, and with which key.
#[derive(Args, Debug)]
#[command(next_help_heading = "Which authority")]
pub(crate) struct TargetArgs {
    /// The authority's address, with or without /v1 [env: CLERK_API_URL or CLERK_API_BASE_URL]. The instance key stands in the
    /// environment as CLERK_SECRET_KEY, a machine's key as CLERK_MACHINE_SECRET_KEY
    #[arg(long, global = true, value_name = "URL", conflicts_with = "data")]
    url: Option<String>,

    /// A file with the instance key, instead of CLERK_SECRET_KEY
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "data")]
    secret_key_file: Option<PathBuf>,

    /// A file with a machine's key, instead of CLERK_MACHINE_SECRET_KEY
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "data")]
    machine_key_file: Option<PathBuf>,

    /// A file with these variables, which nobody else may read [default: .countersign/dev.env of `countersign dev`, where no
    /// address, key or data folder is given]
    #[arg(long, global = true, value_name = "FILE", conflicts_with = "data")]
    env_file: Option<PathBuf>,

    /// Sends keys over plain HTTP to another machine, where everybody on the way can read them
    #[arg(long, global = true, conflicts_with = "data")]
    insecure_http: bool,

    /// Acts on this data folder as the operator, without a key, whether or not a server is running on it [env:
    /// COUNTERSIGN_DATA]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,

    /// The file with the master key of the data folder; not needed while a server is running on the folder [env:
    /// COUNTERSIGN_MASTER_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    master_key_file: Option<PathBuf>,

    /// The instance to act on, by id or name; required if the data folder has several
    #[arg(long, global = true, value_name = "INSTANCE")]
    instance: Option<String>,

    /// The public URL of the authority, which is the issuer of JWTs; ignored while a server is running on the data folder
    /// [env: COUNTERSIGN_PUBLIC_URL]
    #[arg(long, global = true, value_name = "URL")]
    public_url: Option<String>,

    /// Prints JSON in the shapes of the API
    #[arg(long, global = true, help_heading = "Options")]
    pub(crate) json: bool,
}

impl TargetArgs {
    /// Finds the authority. Flags override the environment. In the environment, an address overrides a data folder.
    pub(crate) async fn open(&self) -> Result<Connection, Failure> {
        if self.data.is_some() {
            return Ok(Connection::Door(self.door().await?));
        }
        // The address and the keys come from one source, so that a file cannot send a key from the environment to
        // another address.
        let source = match &self.env_file {
            Some(file) => Source::read(file)?,
            None => Source::Environment,
        };
        let is_address = |source: &Source| source.url().is_some();
        if self.url.is_some() || is_address(&source) {
            return self.network(&source);
        }
        if variable("COUNTERSIGN_DATA").is_some() && self.env_file.is_none() {
            return Ok(Connection::Door(self.door().await?));
        }
        let dev = Path::new(DEV_ENV_FILE);
        if self.env_file.is_none() && dev.exists() {
            self.refuse_key_without_address()?;
            let source = Source::read(dev)?;
            if let Some(url) = source.url() {
                let network = self.network(&source)?;
                output::note(&format!("Using {url} and the key in {DEV_ENV_FILE}."));
                return Ok(network);
            }
        }
        Err(Failure::new(
            Code::Settings,
            "no authority was named",
            "give --url URL (or CLERK_API_URL) with the key in CLERK_SECRET_KEY, or --data DIR to act on a data folder",
        ))
    }

    /// Refuses a given key without an address. Such a key is neither replaced by the key of `dev` nor sent to the
    /// address of `dev`.
    fn refuse_key_without_address(&self) -> Result<(), Failure> {
        let (secret, machine) = ("CLERK_SECRET_KEY", "CLERK_MACHINE_SECRET_KEY");
        let given = [
            ("--secret-key-file", self.secret_key_file.is_some()),
            ("--machine-key-file", self.machine_key_file.is_some()),
            (secret, variable(secret).is_some()),
            (machine, variable(machine).is_some()),
        ];
        let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given) else {
            return Ok(());
        };
        Err(Failure::new(
            Code::Settings,
            format!("{name} gives a key, and no authority was named"),
            format!(
                "give its address with --url or CLERK_API_URL, or use what `countersign dev` wrote: --env-file {DEV_ENV_FILE}"
            ),
        ))
    }

    /// Connects to the operator's door of the data folder, for commands that work only there.
    pub(crate) async fn door(&self) -> Result<DoorConnection, Failure> {
        let Some(folder) = self
            .data
            .clone()
            .or_else(|| variable("COUNTERSIGN_DATA").map(PathBuf::from))
        else {
            return Err(Failure::new(
                Code::Settings,
                "this command needs the data folder: an instance key is not sufficient",
                "give --data DIR on the authority's machine",
            ));
        };
        let master_key_file = self
            .master_key_file
            .clone()
            .or_else(|| variable("COUNTERSIGN_MASTER_KEY_FILE").map(PathBuf::from));
        let public_url = self
            .public_url
            .clone()
            .or_else(|| variable("COUNTERSIGN_PUBLIC_URL"));
        DoorConnection::open(
            &folder,
            master_key_file.as_deref(),
            self.instance.as_deref(),
            public_url.as_deref(),
        )
        .await
    }

    fn network(&self, source: &Source) -> Result<Connection, Failure> {
        let local_only = [
            ("--master-key-file", self.master_key_file.is_some()),
            ("--instance", self.instance.is_some()),
            ("--public-url", self.public_url.is_some()),
        ];
        if let Some((flag, _)) = local_only.iter().find(|(_, is_given)| *is_given) {
            let hint =
                "give --data DIR as well, or leave this flag out: a key belongs to one instance";
            return Err(Failure::new(
                Code::Usage,
                format!("{flag} requires a data folder"),
                hint,
            ));
        }
        let url = self
            .url
            .clone()
            .or_else(|| source.url())
            .unwrap_or_default();
        let key = |file: &Option<PathBuf>, name: &str| match file {
            Some(file) => read_secret(file).map(Some),
            None => Ok(source.get(name).map(Secret::new)),
        };
        let instance_key = key(&self.secret_key_file, "CLERK_SECRET_KEY")?;
        let machine_key = key(&self.machine_key_file, "CLERK_MACHINE_SECRET_KEY")?;
        Ok(Connection::Network(Network::new(
            &url,
            instance_key,
            machine_key,
            self.machine_key_file.is_some(),
            self.insecure_http,
        )?))
    }
}

/// The source of an address and keys.
enum Source {
    Environment,
    File(Vec<(String, String)>),
}

impl Source {
    fn read(path: &Path) -> Result<Self, Failure> {
        refuse_loose_mode(path)?;
        let text = fs::read_to_string(path).map_err(|error| {
            Failure::new(
                Code::Unreadable,
                format!("cannot read {}: {error}", path.display()),
                "--env-file names a file with lines like CLERK_API_URL=…",
            )
        })?;
        Ok(Self::File(parse_env(&text)))
    }

    fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Environment => variable(name),
            Self::File(lines) => lines
                .iter()
                .rev()
                .find(|(key, value)| key == name && !value.is_empty())
                .map(|(_, value)| value.clone()),
        }
    }

    fn url(&self) -> Option<String> {
        self.get("CLERK_API_URL")
            .or_else(|| self.get("CLERK_API_BASE_URL"))
    }
}

/// Parses lines like `NAME=value`, optionally with `export` in front and quotes around the value.
fn parse_env(text: &str) -> Vec<(String, String)> {
    let unquoted = |value: &str| {
        let inner = ['"', '\'']
            .iter()
            .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        inner.unwrap_or(value).to_owned()
    };
    text.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("export ").unwrap_or(line).split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), unquoted(value.trim())))
        .collect()
}

/// Reads a secret from a file that nobody else may read, or from standard input for `-`.
pub(crate) fn read_secret(path: &Path) -> Result<Secret, Failure> {
    let (text, place) = if path == Path::new("-") {
        (
            std::io::read_to_string(std::io::stdin()),
            "standard input".to_owned(),
        )
    } else {
        refuse_loose_mode(path)?;
        (fs::read_to_string(path), path.display().to_string())
    };
    let text = text.map_err(|error| {
        Failure::new(
            Code::Unreadable,
            format!("cannot read {place}: {error}"),
            "name a file with the secret and nothing else, or - for standard input",
        )
    })?;
    let secret = text.trim();
    if secret.is_empty() || secret.contains(char::is_whitespace) {
        return Err(Failure::new(
            Code::Settings,
            format!("{place} holds no secret"),
            "it must hold the secret and nothing else",
        ));
    }
    Ok(Secret::new(secret.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_are_read_as_shells_and_others_write_them() {
        let lines = parse_env("# note\nA=1\nexport B = \"two words\"\n C='3'\nnonsense\nA=4\nE=\n");
        let source = Source::File(lines);
        assert_eq!(source.get("A").as_deref(), Some("4"));
        assert_eq!(source.get("B").as_deref(), Some("two words"));
        assert_eq!(source.get("C").as_deref(), Some("3"));
        assert_eq!(source.get("E"), None);
    }
}
