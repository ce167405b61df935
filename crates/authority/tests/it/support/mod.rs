//! What every test begins with: an authority with data of its own, and short ways to make things in it.

pub(crate) mod driver;
#[expect(dead_code, reason = "the server's tests use the rest")]
pub(crate) mod faulty;
pub(crate) mod model;
pub(crate) mod sources;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_authority::{
    Accepts, Actor, Authority, AuthorityOptions, Error, Invalid, IssueRequest, IssuedToken,
    ListTokens, MachineRequest, MasterKey, Operator, Problem, Refusal, UpdateRequest, WhoAmI,
};
use countersign_protocol::body::{Change, M2mToken, M2mTokenList, MachineSecretKey};
use countersign_protocol::change::ChangeKind;
use countersign_protocol::claims::Claims;
use countersign_protocol::ids::{InstanceId, MachineId, TokenId};
use countersign_protocol::settings::{InstanceSettings, SettingsUpdate};
use countersign_protocol::token::TokenFormat;
use countersign_store::{OpenStore, Store};
use serde_json::Value;

use crate::back_end::Data;
use faulty::FaultyStore;
use sources::{ManualClock, SeededRandom};

/// An authority and everything that it uses.
pub(crate) struct World {
    pub(crate) authority: Arc<Authority>,
    pub(crate) operator: Operator,
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) options: AuthorityOptions,
    pub(crate) data: Data,
}

/// A machine and its newest key.
#[derive(Clone, Debug)]
pub(crate) struct Bot {
    pub(crate) id: MachineId,
    pub(crate) key: String,
}

/// The options that tests begin with.
pub(crate) fn options() -> AuthorityOptions {
    AuthorityOptions {
        public_url: "https://auth.example.com".to_owned(),
        ..AuthorityOptions::default()
    }
}

/// The master key of every world.
pub(crate) fn master_key() -> MasterKey {
    MasterKey::generate(&SeededRandom::new(1))
}

impl World {
    /// An authority without instances.
    pub(crate) async fn new() -> Self {
        Self::with_options(options()).await
    }

    pub(crate) async fn with_options(options: AuthorityOptions) -> Self {
        let (data, store) = Data::new();
        let random = Arc::new(SeededRandom::new(2));
        let clock = Arc::new(ManualClock::default());
        Authority::initialize(&store, &master_key(), &*clock, &*random)
            .await
            .unwrap();
        Self::open(data, store, clock, random, options).await
    }

    pub(crate) async fn open(
        data: Data,
        store: OpenStore,
        clock: Arc<ManualClock>,
        random: Arc<SeededRandom>,
        options: AuthorityOptions,
    ) -> Self {
        let store = Arc::new(FaultyStore::new(store.into_store()));
        let master = master_key();
        let opened = Authority::open(
            OpenStore::from(Arc::clone(&store) as Arc<dyn Store>),
            &master,
            Arc::clone(&clock) as _,
            Arc::clone(&random) as _,
            options.clone(),
        );
        let (authority, operator) = opened.await.unwrap();
        Self {
            authority: Arc::new(authority),
            operator,
            store,
            clock,
            random,
            options,
            data,
        }
    }

    /// Ends the process without any preparation and starts it again.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            authority,
            store,
            clock,
            random,
            options,
            data,
            ..
        } = self;
        drop(authority);
        drop(store);
        let store = data.open();
        Self::open(data, store, clock, random, options).await
    }

    /// A second world with the same past. Nothing else may have the template open.
    pub(crate) async fn copy(template: &Data, seed: u64) -> Self {
        let data = template.copy();
        let store = data.open();
        let random = Arc::new(SeededRandom::new(seed));
        Self::open(data, store, Arc::default(), random, options()).await
    }

    /// Ends the authority and leaves its data, to be copied.
    pub(crate) fn into_template(self) -> Data {
        drop(self.authority);
        drop(self.store);
        self.data
    }

    /// A new instance; its key.
    pub(crate) async fn instance(&self, name: &str) -> String {
        let created = self.authority.create_instance(&self.operator, name, false);
        created.await.unwrap().key.expose().to_owned()
    }

    /// The id of the instance that a key belongs to.
    pub(crate) async fn instance_id(&self, key: &str) -> InstanceId {
        self.actor(key).await.instance_id()
    }

    /// The settings of an instance.
    pub(crate) async fn settings(&self, instance_key: &str) -> InstanceSettings {
        let owner = self.actor(instance_key).await;
        self.authority.instance(&owner).await.unwrap().settings
    }

    /// The operator as an administrator of an instance.
    pub(crate) async fn operator_for(&self, instance_key: &str) -> Actor {
        let instance = self.instance_id(instance_key).await;
        let operator = self.authority.operator_for(&self.operator, instance);
        operator.await.unwrap()
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
            name: name.into(),
            scoped_machines: scopes.iter().map(|bot| bot.id.to_string()).collect(),
            default_token_ttl: None,
        };
        let owner = self.actor(instance_key).await;
        let created = self
            .authority
            .create_machine(&owner, request)
            .await
            .unwrap();
        Bot {
            id: created.id,
            key: created.secret_key.unwrap().0,
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
        self.try_set(&owner, &settings).await.unwrap();
    }

    /// Reads settings as the API does, and changes them.
    pub(crate) async fn try_set(&self, actor: &Actor, settings: &Value) -> Result<(), Error> {
        let update = settings_update(settings)?;
        let updated = self.authority.update_instance_settings(actor, &update);
        updated.await.map(drop)
    }

    /// The records of an instance's change log.
    pub(crate) async fn log(&self, instance_key: &str) -> Vec<Change> {
        let owner = self.actor(instance_key).await;
        self.authority.list_changes(&owner, None).await.unwrap()
    }

    /// The kinds of the log's records, oldest first.
    pub(crate) async fn logged(&self, instance_key: &str) -> Vec<&'static str> {
        let log = self.log(instance_key).await;
        log.iter().map(|change| change.kind.as_str()).collect()
    }

    /// The number of records of one kind.
    pub(crate) async fn count_logged(&self, instance_key: &str, kind: ChangeKind) -> usize {
        let log = self.log(instance_key).await;
        log.iter().filter(|change| change.kind == kind).count()
    }

    /// Up to 100 tokens of a machine, in all formats and states.
    pub(crate) async fn all_tokens(&self, actor: &Actor, machine: MachineId) -> M2mTokenList {
        let listed = self.authority.list_tokens(actor, all_of(machine));
        listed.await.unwrap()
    }

    /// What a token that is presented as a credential stands for.
    pub(crate) async fn own_token(&self, token: &str) -> Result<M2mToken, Error> {
        match self.authority.whoami(token).await? {
            WhoAmI::Token { token } => Ok(token),
            other => panic!("not a token: {other:?}"),
        }
    }

    /// Waits until so many calls of the store wait.
    pub(crate) async fn until_waiting(&self, calls: u64) {
        while self.store.waiting() < calls {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.store.waiting(), calls);
    }
}

/// Up to 100 tokens of a machine, in all formats and states.
pub(crate) fn all_of(machine: MachineId) -> ListTokens {
    ListTokens {
        subject: Some(machine.to_string()),
        revoked: true,
        expired: true,
        format: Some("all".to_owned()),
        limit: Some(100.into()),
        offset: None,
    }
}

/// Settings as the API reads them.
pub(crate) fn settings_update(settings: &Value) -> Result<SettingsUpdate, Invalid> {
    let mut update = SettingsUpdate::default();
    for (name, value) in settings.as_object().unwrap() {
        update.set(name, value.clone())?;
    }
    Ok(update)
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
    IssueRequest::default()
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
        min_remaining_ttl_seconds: Some(min_remaining_ttl_seconds.into()),
        ..opaque()
    }
}

pub(crate) fn lasting(seconds: f64, request: IssueRequest) -> IssueRequest {
    IssueRequest {
        seconds_until_expiration: Some(seconds.into()),
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
        revoked: Some(true),
        revocation_reason: Some(reason.into()),
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

/// The text of a rotated or revealed key.
pub(crate) fn secret_of(key: MachineSecretKey) -> String {
    key.secret.0
}

/// The parameter that is wrong and how.
pub(crate) fn problem_of<T>(outcome: Result<T, Error>) -> (String, Problem) {
    match outcome {
        Err(Error::Invalid(Invalid { name, problem, .. })) => (name.into_owned(), problem),
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
