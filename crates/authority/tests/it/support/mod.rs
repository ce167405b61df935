//! What every test begins with: an authority on SQLite in a folder of its own, and short ways to make things in it.

pub(crate) mod driver;
#[expect(dead_code, reason = "the server's tests use the rest")]
pub(crate) mod faulty;
pub(crate) mod model;
pub(crate) mod sources;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_authority::{
    Accepts, Actor, Authority, AuthorityOptions, Error, Invalid, IssueRequest, IssuedToken,
    MachineRequest, MasterKey, Problem, Refusal, TokenFormat, UpdateRequest,
};
use countersign_protocol::body::M2mToken;
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{MachineId, TokenId};
use countersign_store::sqlite::{SqliteOptions, SqliteStore};
use countersign_store::{Change, Store};
use serde_json::Value;
use tempfile::TempDir;

use faulty::FaultyStore;
use sources::{ManualClock, SeededRandom};

/// An authority and all that it stands on.
pub(crate) struct World {
    pub(crate) authority: Arc<Authority>,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<ManualClock>,
    random: Arc<SeededRandom>,
    master: MasterKey,
    options: AuthorityOptions,
    folder: TempDir,
}

/// A machine and its newest key.
#[derive(Clone, Debug)]
pub(crate) struct Bot {
    pub(crate) id: MachineId,
    pub(crate) key: String,
}

impl World {
    /// An authority without instances.
    pub(crate) async fn new() -> Self {
        Self::with_options(AuthorityOptions {
            public_url: "https://auth.example.com".to_owned(),
            ..AuthorityOptions::default()
        })
        .await
    }

    pub(crate) async fn with_options(options: AuthorityOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = Arc::new(SeededRandom::new(1));
        let master = MasterKey::generate(&*random);
        let clock = Arc::new(ManualClock::default());
        let store = SqliteStore::create(folder.path(), SqliteOptions::default()).unwrap();
        Authority::initialise(&store, &master, &*clock, &*random)
            .await
            .unwrap();
        Self::open(folder, store, clock, random, master, options).await
    }

    async fn open(
        folder: TempDir,
        store: SqliteStore,
        clock: Arc<ManualClock>,
        random: Arc<SeededRandom>,
        master: MasterKey,
        options: AuthorityOptions,
    ) -> Self {
        let store = Arc::new(FaultyStore::new(Arc::new(store)));
        let authority = Authority::open(
            Arc::clone(&store) as Arc<dyn Store>,
            &master,
            Arc::clone(&clock) as _,
            Arc::clone(&random) as _,
            options.clone(),
        );
        let authority = Arc::new(authority.await.unwrap());
        Self {
            authority,
            store,
            clock,
            random,
            master,
            options,
            folder,
        }
    }

    /// The process ends and starts again, without a word of farewell.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            authority,
            store,
            clock,
            random,
            master,
            options,
            folder,
        } = self;
        drop(authority);
        drop(store);
        let store = SqliteStore::open(folder.path(), SqliteOptions::default()).unwrap();
        Self::open(folder, store, clock, random, master, options).await
    }

    /// A second world with the same past. The first one must rest meanwhile: files are copied.
    pub(crate) async fn copy(template: &Path, seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in std::fs::read_dir(template).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let master = MasterKey::generate(&SeededRandom::new(1));
        let random = Arc::new(SeededRandom::new(seed));
        // Power cuts are the matter of other tests; here many short stories are told.
        let hasty = SqliteOptions {
            synchronous_normal_for_proof: true,
            ..SqliteOptions::default()
        };
        let store = SqliteStore::open(folder.path(), hasty).unwrap();
        let options = AuthorityOptions {
            public_url: "https://auth.example.com".to_owned(),
            ..AuthorityOptions::default()
        };
        Self::open(
            folder,
            store,
            Arc::new(ManualClock::default()),
            random,
            master,
            options,
        )
        .await
    }

    /// Ends the authority and leaves its folder, to be copied.
    pub(crate) fn into_template(self) -> TempDir {
        drop(self.authority);
        drop(self.store);
        self.folder
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("countersign.db")
    }

    /// A new instance; its key.
    pub(crate) async fn instance(&self, name: &str) -> String {
        let created = self.authority.create_instance(name, false).await.unwrap();
        created.key.expose().to_owned()
    }

    /// Whoever holds this key.
    pub(crate) async fn actor(&self, key: &str) -> Actor {
        self.authority
            .authenticate(key, Accepts::Any)
            .await
            .unwrap()
    }

    /// A new machine of the instance, that may call `scopes`.
    pub(crate) async fn machine(&self, instance_key: &str, name: &str, scopes: &[&Bot]) -> Bot {
        let request = MachineRequest {
            name: name.to_owned(),
            scoped_machines: scopes.iter().map(|bot| bot.id).collect(),
            default_token_ttl: 3600,
        };
        let owner = self.actor(instance_key).await;
        let created = self
            .authority
            .create_machine(&owner, request)
            .await
            .unwrap();
        Bot {
            id: created.machine.machine.id,
            key: created.key.expose().to_owned(),
        }
    }

    pub(crate) async fn issue(
        &self,
        bot: &Bot,
        request: IssueRequest,
    ) -> Result<IssuedToken, Error> {
        self.authority
            .issue(&self.actor(&bot.key).await, &request)
            .await
    }

    /// A new token: its string and its id.
    pub(crate) async fn token(&self, bot: &Bot, request: IssueRequest) -> (String, TokenId) {
        let issued = self.issue(bot, request).await.unwrap();
        (string_of(&issued).to_owned(), issued.body.id)
    }

    pub(crate) async fn verify(&self, key: &str, token: &str) -> Result<M2mToken, Error> {
        self.authority.verify(&self.actor(key).await, token).await
    }

    /// Why a token is refused and whether the verifier is told; `None` where it is not refused.
    pub(crate) async fn refusal(&self, key: &str, token: &str) -> Option<(Refusal, bool)> {
        refusal_of(self.verify(key, token).await)
    }

    /// Changes settings of the instance.
    pub(crate) async fn set(&self, instance_key: &str, settings: Value) {
        let owner = self.actor(instance_key).await;
        self.authority
            .update_instance_settings(&owner, &settings)
            .await
            .unwrap();
    }

    /// The kinds and subjects of an instance's change log.
    pub(crate) async fn log(&self, instance_key: &str) -> Vec<Change> {
        let owner = self.actor(instance_key).await;
        self.authority.list_changes(&owner, 0).await.unwrap()
    }

    /// What the log's entries are about, oldest first.
    pub(crate) async fn logged(&self, instance_key: &str) -> Vec<&'static str> {
        let log = self.log(instance_key).await;
        log.iter().map(|change| change.kind.as_str()).collect()
    }
}

/// Two machines of a first instance, of which the first may call the second, and a stranger in a second instance.
pub(crate) struct Story {
    pub(crate) world: World,
    pub(crate) home: String,
    pub(crate) sender: Bot,
    pub(crate) receiver: Bot,
    pub(crate) abroad: String,
    pub(crate) stranger: Bot,
}

impl Story {
    pub(crate) async fn new() -> Self {
        Self::in_world(World::new().await).await
    }

    pub(crate) async fn in_world(world: World) -> Self {
        let home = world.instance("home").await;
        let receiver = world.machine(&home, "receiver", &[]).await;
        let sender = world.machine(&home, "sender", &[&receiver]).await;
        let abroad = world.instance("abroad").await;
        let stranger = world.machine(&abroad, "stranger", &[]).await;
        Self {
            world,
            home,
            sender,
            receiver,
            abroad,
            stranger,
        }
    }
}

impl std::ops::Deref for Story {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

/// A token as SDKs ask for it when nothing is said.
pub(crate) fn opaque() -> IssueRequest {
    IssueRequest {
        format: TokenFormat::Opaque,
        seconds_until_expiration: None,
        claims: None,
        min_remaining_ttl_seconds: None,
    }
}

pub(crate) fn jwt() -> IssueRequest {
    IssueRequest {
        format: TokenFormat::Jwt,
        ..opaque()
    }
}

/// An opaque token that may be an older one.
pub(crate) fn pooled(min_remaining_ttl_seconds: i64) -> IssueRequest {
    IssueRequest {
        min_remaining_ttl_seconds: Some(min_remaining_ttl_seconds),
        ..opaque()
    }
}

pub(crate) fn lasting(seconds: f64, request: IssueRequest) -> IssueRequest {
    IssueRequest {
        seconds_until_expiration: Some(seconds),
        ..request
    }
}

pub(crate) fn claiming(claims: &str, mut request: IssueRequest) -> IssueRequest {
    request.claims = self::claims(claims);
    request
}

pub(crate) fn claims(text: &str) -> Option<Claims> {
    Claims::from_stored(text.to_owned()).unwrap()
}

pub(crate) fn revoke_it(reason: &str) -> UpdateRequest {
    UpdateRequest {
        revoke: true,
        revocation_reason: Some(reason.to_owned()),
        ..UpdateRequest::default()
    }
}

pub(crate) fn string_of(issued: &IssuedToken) -> &str {
    &issued.body.token.as_ref().unwrap().0
}

pub(crate) fn refusal_of<T>(outcome: Result<T, Error>) -> Option<(Refusal, bool)> {
    match outcome {
        Ok(_) => None,
        Err(Error::TokenRefused {
            refusal,
            is_disclosed,
            ..
        }) => Some((refusal, is_disclosed)),
        Err(error) => panic!("neither valid nor refused: {error}"),
    }
}

/// The parameter that is wrong and how.
pub(crate) fn problem_of<T>(outcome: Result<T, Error>) -> (String, Problem) {
    match outcome {
        Err(Error::Invalid(Invalid { name, problem })) => (name.into_owned(), problem),
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it was accepted"),
    }
}

/// The middle part of a JWT, read.
pub(crate) fn payload_of(jwt: &str) -> Value {
    part_of(jwt, 1)
}

pub(crate) fn header_of(jwt: &str) -> Value {
    part_of(jwt, 0)
}

fn part_of(jwt: &str, part: usize) -> Value {
    let text = jwt.split('.').nth(part).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}
