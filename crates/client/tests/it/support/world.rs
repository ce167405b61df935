//! A real authority in this process. The examples' tests have it, too.

use std::os::unix::net::UnixListener;
use std::sync::Arc;

use countersign_authority::{
    Authority, AuthorityOptions, Clock, MasterKey, SystemClock, SystemRandom,
};
use countersign_client::{Client, CreatedMachine, MachineId, NewMachine};
use countersign_server::{Door, Server, ServerOptions};
use countersign_store::{StoreChoice, StoreOptions};
use tempfile::TempDir;

/// An authority with one instance.
pub(crate) struct World {
    pub(crate) url: String,
    /// With the instance key.
    pub(crate) admin: Client,
    /// As the operator.
    pub(crate) operator: Client,
    _server: Server,
    _door: Door,
    _folder: TempDir,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(Arc::new(SystemClock::default())).await
    }

    /// Starts an authority that goes by this clock.
    pub(crate) async fn start_with(clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = Arc::new(SystemRandom);
        let master = MasterKey::generate(&*random);
        let choice = StoreChoice::from(folder.path());
        let store = choice.create(StoreOptions::default()).unwrap();
        Authority::initialize(&store, &master, &*clock, &*random)
            .await
            .unwrap();
        let options = AuthorityOptions {
            public_url: "https://auth.example.com".to_owned(),
            ..AuthorityOptions::default()
        };
        let authority = Authority::open(store, &master, clock, Arc::clone(&random) as _, options);
        let (authority, operator) = authority.await.unwrap();
        let authority = Arc::new(authority);
        let created = authority.create_instance(&operator, "test", false);
        let created = created.await.unwrap();
        let options = ServerOptions {
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: None,
            threads: 1,
            tls: None,
            trusted_proxies: Vec::new(),
            mounts: Vec::new(),
            is_for_this_machine: false,
            lost_log_lines: std::sync::Arc::default(),
        };
        let server = Server::start(Arc::clone(&authority), Arc::clone(&random) as _, &options);
        let server = server.unwrap();
        let path = folder.path().join("operator.sock");
        let socket = UnixListener::bind(&path).unwrap();
        let door = Door::open(socket, authority, operator, random).unwrap();
        let url = format!("http://{}", server.address());
        Self {
            admin: Client::new(&url, created.key.expose()).unwrap(),
            url,
            operator: Client::at_door(&path).build().unwrap(),
            _server: server,
            _door: door,
            _folder: folder,
        }
    }

    /// A new machine that may call others.
    pub(crate) async fn machine(&self, name: &str, calling: &[MachineId]) -> CreatedMachine {
        let new = NewMachine::named(name).calling(calling.iter().copied());
        self.admin.create_machine(&new).await.unwrap()
    }

    /// A client with a machine's key.
    pub(crate) fn client_of(&self, machine: &CreatedMachine) -> Client {
        Client::new(&self.url, machine.key.expose()).unwrap()
    }
}
