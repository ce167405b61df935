//! The authority that a command talks to: over HTTP with a key, or through the operator's door of a data folder. Both
//! answer the same requests and differ only in the caller.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use countersign_authority::{Authority, AuthorityOptions};
use countersign_client::requests::{self, Request};
use countersign_client::{Client, ClientBuilder, InstanceId, MachineId};
use countersign_protocol::instance::{Instance, WhoAmI};
use countersign_protocol::secret::Secret;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::output;
use super::refusal::failure;
use crate::door::{self, COMMAND_SOCKET, OpenDoor, SocketPath};
use crate::exit::{Code, Failure};
use crate::{folder, logs};

/// Timeout for name resolution, connection and TLS handshake.
const CONNECT: Duration = Duration::from_secs(10);
/// Timeout for the whole response.
const ANSWER: Duration = Duration::from_secs(30);
/// Maximum size of a response. A thousand changes, or five hundred machines with their scopes, are much smaller.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Size of the token index in a folder that a command opens itself, in MiB. A command reads few tokens.
const INDEX_MIB: u64 = 8;
/// How long a command waits for another process to close the folder.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a command tries to reach a door that accepts connections and does not answer.
const DOOR_PATIENCE: Duration = Duration::from_millis(500);
/// The pause between two attempts.
const LOOK: Duration = Duration::from_millis(25);

/// A connection to an authority.
pub(crate) enum Connection {
    Network(Network),
    Door(DoorConnection),
}

/// The caller that a request needs.
#[derive(Clone, Copy)]
enum Asker {
    /// An administrator of the instance.
    Administrator,
    /// An administrator, or the machine whose key was given.
    Anyone,
    /// This machine. If no machine is named, anyone.
    MachineOrAnyone(Option<MachineId>),
    /// This machine. If no machine is named, the machine whose key was given.
    Machine(Option<MachineId>),
}

impl Connection {
    /// Sends a request of an administrator.
    pub(crate) async fn manage<T: DeserializeOwned>(
        &self,
        request: Request<T>,
    ) -> Result<T, Failure> {
        self.send(Asker::Administrator, request).await
    }

    /// Sends a request that a machine may also send about itself.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: Request<T>) -> Result<T, Failure> {
        self.send(Asker::Anyone, request).await
    }

    /// Sends a request as `machine`, or with the key that was given.
    pub(crate) async fn ask_as<T: DeserializeOwned>(
        &self,
        machine: Option<MachineId>,
        request: Request<T>,
    ) -> Result<T, Failure> {
        self.send(Asker::MachineOrAnyone(machine), request).await
    }

    /// Sends a request that only a machine may send: as `machine`, or as the machine whose key was given.
    pub(crate) async fn act_as<T: DeserializeOwned>(
        &self,
        machine: Option<MachineId>,
        request: Request<T>,
    ) -> Result<T, Failure> {
        self.send(Asker::Machine(machine), request).await
    }

    /// Returns the machine whose key is used, or `None` if an administrator asks.
    pub(crate) async fn own_machine(&self) -> Result<Option<MachineId>, Failure> {
        Ok(match self.ask(requests::whoami()).await? {
            WhoAmI::Machine(machine) => Some(machine.machine_id),
            _ => None,
        })
    }

    /// Returns whether the issuer that the authority reports is the one that its JWTs will have. A command that opened the
    /// folder itself knows the public URL only if it was given one.
    pub(crate) fn knows_issuer(&self, instance: &Instance) -> bool {
        let knows_url = match self {
            Self::Network(_) => true,
            Self::Door(door) => door.knows_public_url,
        };
        knows_url || instance.settings.issuer.is_some()
    }

    /// Closes the connection, and writes what is still in memory.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Network(_) => Ok(()),
            Self::Door(door) => door.finish().await,
        }
    }

    async fn send<T: DeserializeOwned>(
        &self,
        asker: Asker,
        request: Request<T>,
    ) -> Result<T, Failure> {
        let client = match self {
            Self::Network(network) => network.client(asker).await?,
            Self::Door(door) => door.client(asker)?,
        };
        send(&client, request).await
    }
}

async fn send<T: DeserializeOwned>(client: &Client, request: Request<T>) -> Result<T, Failure> {
    let path = request.path().to_owned();
    let answer = client.send(request).await;
    answer.map_err(|error| failure(client.address(), &path, error))
}

fn patient(builder: ClientBuilder) -> ClientBuilder {
    builder
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .max_answer_bytes(MAX_ANSWER_BYTES)
}

/// An address and the keys that were given.
pub(crate) struct Network {
    url: String,
    allows_plain: bool,
    instance_key: Option<Secret>,
    machine_key: Option<Secret>,
    /// Whether the machine key was named on the command line, so it takes precedence.
    prefers_machine: bool,
}

impl Network {
    pub(crate) fn new(
        url: &str,
        instance_key: Option<Secret>,
        machine_key: Option<Secret>,
        prefers_machine: bool,
        allows_plain: bool,
    ) -> Result<Self, Failure> {
        let places = [
            (&instance_key, "sk_", "an instance key"),
            (&machine_key, "ak_", "a machine key"),
        ];
        for (key, prefix, noun) in places {
            if key
                .as_ref()
                .is_some_and(|key| !key.expose().starts_with(prefix))
            {
                let hint = "instance keys begin with sk_ and go into CLERK_SECRET_KEY; machine keys begin with ak_ and go into CLERK_MACHINE_SECRET_KEY";
                return Err(Failure::new(
                    Code::Settings,
                    format!("the value given as {noun} is not {noun}"),
                    hint,
                ));
            }
        }
        let network = Self {
            url: url.to_owned(),
            allows_plain,
            instance_key,
            machine_key,
            prefers_machine,
        };
        // A wrong address is reported before any other problem.
        if let Some(key) = network
            .instance_key
            .as_ref()
            .or(network.machine_key.as_ref())
        {
            network.client_with(key)?;
        }
        Ok(network)
    }

    fn client_with(&self, key: &Secret) -> Result<Client, Failure> {
        let mut client = patient(Client::builder(&self.url, key.expose()));
        if self.allows_plain {
            client = client.allow_plain_http();
        }
        client
            .build()
            .map_err(|error| failure(&self.url, "", error))
    }

    async fn client(&self, asker: Asker) -> Result<Client, Failure> {
        match asker {
            Asker::Administrator => self.client_with(self.instance_key()?),
            Asker::Anyone | Asker::MachineOrAnyone(None) => self.client_with(self.any_key()?),
            Asker::Machine(Some(machine)) | Asker::MachineOrAnyone(Some(machine)) => {
                self.client_with(&self.key_of(machine).await?)
            }
            Asker::Machine(None) => {
                let key = self.machine_key.as_ref().ok_or_else(|| {
                    Failure::new(
                        Code::Settings,
                        "a token belongs to a machine; give the machine or its key",
                        "put the key into CLERK_MACHINE_SECRET_KEY, name its file with --machine-key-file, or name the machine and give the instance key",
                    )
                })?;
                self.client_with(key)
            }
        }
    }

    fn instance_key(&self) -> Result<&Secret, Failure> {
        self.instance_key.as_ref().ok_or_else(|| {
            Failure::new(
                Code::Settings,
                "this needs the instance key",
                "put it into CLERK_SECRET_KEY, or name its file with --secret-key-file; never put it on the command line",
            )
        })
    }

    /// Returns the key for requests that either key may send.
    fn any_key(&self) -> Result<&Secret, Failure> {
        match &self.machine_key {
            Some(key) if self.prefers_machine || self.instance_key.is_none() => Ok(key),
            _ => self.instance_key(),
        }
    }

    /// Returns the key of `machine`, read with the instance key.
    async fn key_of(&self, machine: MachineId) -> Result<Secret, Failure> {
        if self.prefers_machine {
            let hint = "leave one of them out: the key already identifies the machine";
            return Err(Failure::new(
                Code::Usage,
                "a machine and --machine-key-file were both given",
                hint,
            ));
        }
        output::note(&format!(
            "Using the key of {machine}; the change log records that it was shown."
        ));
        let client = self.client_with(self.instance_key()?)?;
        let key = send(&client, requests::machine_key(machine)).await?;
        Ok(Secret::new(key.secret.0))
    }
}

/// The operator's door of a data folder.
pub(crate) struct DoorConnection {
    client: Client,
    /// The instance to act on, or the message and the hint if none could be chosen.
    choice: Result<InstanceId, (String, String)>,
    knows_public_url: bool,
    host: Option<Host>,
    _path: Option<SocketPath>,
}

/// A folder that this process opened for one command.
struct Host {
    door: OpenDoor,
    authority: Arc<Authority>,
}

impl DoorConnection {
    /// Connects to the door of the server that has the folder open. If no server has, opens the folder and a door for this
    /// command. Waits while another command has the folder open.
    pub(crate) async fn open(
        data: &Path,
        master_key_file: Option<&Path>,
        instance: Option<&str>,
        public_url: Option<&str>,
    ) -> Result<Self, Failure> {
        let started = Instant::now();
        loop {
            let opened = Self::try_open(data, master_key_file, instance, public_url).await;
            let patience = match &opened {
                // Another command has the folder open, or a server is starting or stopping.
                Err(failure) if failure.code == Code::InUse => PATIENCE,
                // A server that stops closes its door first, so the next attempt finds no door.
                Err(failure) if failure.code == Code::Unreachable => DOOR_PATIENCE,
                _ => return opened,
            };
            if started.elapsed() >= patience {
                return opened;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn try_open(
        data: &Path,
        master_key_file: Option<&Path>,
        instance: Option<&str>,
        public_url: Option<&str>,
    ) -> Result<Self, Failure> {
        let (host, path) = match door::find(data)? {
            Some(path) => (None, Some(path)),
            None => (
                Some(Host::open(data, master_key_file, public_url).await?),
                None,
            ),
        };
        let socket = match (&host, &path) {
            (Some(host), _) => host.door.socket(),
            (None, Some(path)) => path.as_path(),
            (None, None) => data,
        };
        let client = patient(Client::at_door(socket)).build();
        let client = client.map_err(|error| failure(&data.display().to_string(), "", error))?;
        let instances = send(&client, requests::list_instances()).await?.data;
        Ok(Self {
            client,
            choice: choose(&instances, instance),
            knows_public_url: host.is_none() || public_url.is_some(),
            host,
            _path: path,
        })
    }

    /// Sends a request that concerns all instances.
    pub(crate) async fn operate<T: DeserializeOwned>(
        &self,
        request: Request<T>,
    ) -> Result<T, Failure> {
        send(&self.client, request).await
    }

    fn client(&self, asker: Asker) -> Result<Client, Failure> {
        let instance = self.choice.as_ref().copied();
        let instance =
            instance.map_err(|(message, hint)| Failure::new(Code::Settings, message, hint))?;
        let client = self.client.for_instance(instance);
        match asker {
            Asker::Administrator | Asker::Anyone | Asker::MachineOrAnyone(None) => Ok(client),
            Asker::Machine(Some(machine)) | Asker::MachineOrAnyone(Some(machine)) => {
                Ok(client.as_machine(machine))
            }
            Asker::Machine(None) => Err(Failure::new(
                Code::Usage,
                "a token belongs to a machine, and no machine was named",
                "give its id or name: countersign token create MACHINE",
            )),
        }
    }

    async fn finish(self) -> Result<(), Failure> {
        // Ends the client's connection, so that closing the door does not wait for it.
        drop(self.client);
        match self.host {
            Some(host) => host.finish().await,
            None => Ok(()),
        }
    }
}

impl Host {
    async fn open(
        data: &Path,
        master_key_file: Option<&Path>,
        public_url: Option<&str>,
    ) -> Result<Self, Failure> {
        let defaults = AuthorityOptions::default();
        let options = AuthorityOptions {
            public_url: public_url.map_or(defaults.public_url, str::to_owned),
            ..defaults
        };
        let (authority, operator) =
            folder::open(data, master_key_file, Some(INDEX_MIB), options).await?;
        logs::start_for_command();
        let authority = Arc::new(authority);
        let door = OpenDoor::open(data, COMMAND_SOCKET, &authority, operator)?;
        Ok(Self { door, authority })
    }

    async fn finish(self) -> Result<(), Failure> {
        self.door.close();
        Ok(self.authority.flush().await?)
    }
}

/// Chooses the instance to act on, by id or name. Returns a message and a hint if none or several match.
fn choose(instances: &[Instance], wanted: Option<&str>) -> Result<InstanceId, (String, String)> {
    let names: Vec<String> = instances
        .iter()
        .map(|instance| format!("{} ({})", instance.id, instance.name))
        .collect();
    let hint = format!("give --instance with one of: {}", names.join(", "));
    let is_wanted = |instance: &&Instance| {
        wanted.is_none_or(|wanted| instance.id.as_str() == wanted || instance.name == wanted)
    };
    let mut fitting = instances.iter().filter(is_wanted);
    match (fitting.next(), fitting.next(), wanted) {
        (Some(instance), None, _) => Ok(instance.id),
        (None, _, _) => Err((
            format!(
                "the data folder has no instance '{}'",
                wanted.unwrap_or_default()
            ),
            hint,
        )),
        (Some(_), Some(_), None) => Err(("the data folder has several instances".to_owned(), hint)),
        (Some(_), Some(_), Some(wanted)) => {
            Err((format!("several instances are named '{wanted}'"), hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_door_that_does_not_answer_is_given_up_after_one_time_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("operator.sock");
        let _silent = UnixListener::bind(socket).expect("bound");
        let started = Instant::now();
        let opened = DoorConnection::open(folder.path(), None, None, None).await;
        let failure = opened.err().expect("no answer comes");
        assert_eq!(failure.code, Code::Unreachable);
        assert!(started.elapsed() < ANSWER * 2, "{:?}", started.elapsed());
    }
}
