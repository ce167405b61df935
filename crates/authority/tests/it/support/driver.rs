//! Does things to an authority, keeps the model in step, and compares the two.

use std::cell::Cell;
use std::sync::Arc;

use countersign_authority::{
    Accepts, Actor, Error, MachineRequest, MachineUpdate, Refusal, UpdateRequest,
};
use countersign_protocol::ids::MachineId;
use countersign_protocol::jwt::UnverifiedJwt;
use countersign_protocol::settings::SettingsUpdate;

use super::model::{Answer, End, Model, ModelKey, ModelMachine, ModelToken, Truth, Verifier, not};
use super::{World, claiming, jwt, lasting, opaque, pooled, secret_of, string_of};
use crate::back_end::Data;

/// How an issue is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Opaque,
    Jwt,
    /// With so many seconds that must remain.
    Pooled(i64),
}

/// Who acts on a token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum By {
    Instance,
    Owner,
    /// Any machine at all.
    Machine(usize),
}

/// Something that is done. Numbers stand for machines and tokens; those beyond the last begin again at the first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    CreateMachine {
        instance: usize,
        scope: usize,
    },
    DeleteMachine(usize),
    RenameMachine(usize),
    AddScope(usize, usize),
    RemoveScope(usize, usize),
    Rotate(usize, i64),
    Reveal(usize),
    Issue(usize, Kind, f64),
    Revoke(usize, By),
    Extend(usize, By, f64),
    Verify(usize),
    /// All tokens of a machine.
    EndTokens(usize),
    /// All tokens of an instance.
    EndAllTokens(usize),
    WriteScopesClaim(usize, bool),
    RotateSigningKey(usize),
    DeleteOldSigningKey(usize),
    Maintain,
    Restart,
    Advance(i64),
    StepWall(i64),
}

pub(crate) struct Driver {
    world: Option<World>,
    pub(crate) model: Model,
    instances: Vec<(String, bool)>,
    /// Whether a fault may happen.
    is_faulty: bool,
    /// How often each answer was given, in the order of [`Driver::ANSWERS`].
    seen: [Cell<u32>; 5],
}

/// What came of an act: done, refused, or nobody knows.
enum Outcome<T> {
    Done(T),
    Refused,
    Lost,
}

impl Driver {
    pub(crate) const ANSWERS: [Answer; 5] = [
        Answer::Valid,
        Answer::Refused(Refusal::Unknown),
        Answer::Refused(Refusal::NotInScope),
        Answer::Refused(Refusal::Revoked),
        Answer::Refused(Refusal::Expired),
    ];

    /// Makes two instances with two machines each, to be copied. Their keys go along.
    pub(crate) async fn template() -> (Data, Vec<(String, Vec<super::Bot>)>) {
        let world = World::new().await;
        let mut instances = Vec::new();
        for name in ["home", "abroad"] {
            let key = world.instance(name).await;
            let receiver = world.machine(&key, "receiver", &[]).await;
            let sender = world.machine(&key, "sender", &[&receiver]).await;
            instances.push((key, vec![sender, receiver]));
        }
        (world.into_template(), instances)
    }

    pub(crate) async fn new(
        template: &Data,
        instances: &[(String, Vec<super::Bot>)],
        is_faulty: bool,
    ) -> Self {
        let mut model = Model::default();
        for (number, (_, bots)) in instances.iter().enumerate() {
            for bot in bots {
                let key = ModelKey {
                    secret: bot.key.clone(),
                    end: End::never(),
                };
                model.machines.push(ModelMachine {
                    id: bot.id,
                    instance: number,
                    exists: Truth::Yes,
                    keys: vec![key],
                    scopes: Vec::new(),
                });
            }
            let receiver = bots[1].id;
            let sender = model.machines.len() - 2;
            model.machines[sender].set_scope(receiver, Truth::Yes);
        }
        let instances = instances.iter().map(|(key, _)| (key.clone(), true));
        Self {
            world: Some(World::copy(template, 3).await),
            model,
            instances: instances.collect(),
            is_faulty,
            seen: Default::default(),
        }
    }

    pub(crate) fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    pub(crate) fn now(&self) -> i64 {
        self.world().authority.now().as_millis()
    }

    /// Sorts an outcome, and checks that a refusal was due or not.
    fn sort<T>(&self, act: Act, outcome: Result<T, Error>, is_allowed: Truth) -> Outcome<T> {
        match outcome {
            Ok(done) => {
                assert!(is_allowed.may_be(true), "{act:?} must be refused");
                Outcome::Done(done)
            }
            Err(Error::Unavailable(error)) => {
                assert!(self.is_faulty, "{act:?}: {error}");
                Outcome::Lost
            }
            Err(error) => {
                assert!(is_allowed.may_be(false), "{act:?} must succeed: {error}");
                Outcome::Refused
            }
        }
    }

    async fn owner(&self, instance: usize) -> Result<Actor, Error> {
        let (key, _) = &self.instances[instance];
        let authority = &self.world().authority;
        authority.authenticate(key, Accepts::Instance).await
    }

    /// The machine with its newest key, and whether that must work.
    async fn machine(&self, machine: usize) -> (Result<Actor, Error>, Truth) {
        let machine = &self.model.machines[machine];
        let key = machine.keys.last().unwrap();
        let works = match not(key.end.is_over(self.now())) {
            Truth::Yes => machine.exists,
            Truth::Maybe if machine.exists != Truth::No => Truth::Maybe,
            _ => Truth::No,
        };
        let authority = &self.world().authority;
        let actor = authority.authenticate(&key.secret, Accepts::Machine).await;
        (actor, works)
    }

    /// Who acts on a token, and whether it must be found.
    async fn actor_on(&self, token: usize, by: By) -> (Result<Actor, Error>, Truth) {
        let subject = self.model.tokens[token].machine;
        let exists = self.model.machines[subject].exists;
        let (machine, is_theirs) = match by {
            By::Instance => {
                let instance = self.model.machines[subject].instance;
                return (self.owner(instance).await, exists);
            }
            By::Owner => (subject, true),
            By::Machine(machine) => {
                let machine = machine % self.model.machines.len();
                (machine, machine == subject)
            }
        };
        let (actor, works) = self.machine(machine).await;
        let found = if is_theirs { works } else { Truth::No };
        (actor, found)
    }

    pub(crate) async fn act(&mut self, act: Act) {
        let count = self.model.machines.len();
        let now = self.now();
        match act {
            Act::CreateMachine { instance, scope } => {
                self.create_machine(act, instance % 2, scope % count).await;
            }
            Act::DeleteMachine(machine) => {
                let machine = machine % count;
                let ModelMachine {
                    id,
                    instance,
                    exists,
                    ..
                } = self.model.machines[machine];
                let outcome = match self.owner(instance).await {
                    Ok(owner) => self.world().authority.delete_machine(&owner, id).await,
                    Err(error) => Err(error),
                };
                match self.sort(act, outcome, exists) {
                    Outcome::Done(_) => self.deleted(machine, Truth::No),
                    Outcome::Lost if exists != Truth::No => self.deleted(machine, Truth::Maybe),
                    Outcome::Lost | Outcome::Refused => {}
                }
            }
            Act::RenameMachine(machine) => {
                let ModelMachine {
                    id,
                    instance,
                    exists,
                    ..
                } = self.model.machines[machine % count];
                let update = MachineUpdate {
                    name: Some("new".into()),
                    default_token_ttl: Some(1800.into()),
                };
                let outcome = match self.owner(instance).await {
                    Ok(owner) => {
                        self.world()
                            .authority
                            .update_machine(&owner, id, update)
                            .await
                    }
                    Err(error) => Err(error),
                };
                self.sort(act, outcome, exists);
            }
            Act::AddScope(from, to) => self.add_scope(act, from % count, to % count).await,
            Act::RemoveScope(from, to) => self.remove_scope(act, from % count, to % count).await,
            Act::Rotate(machine, seconds) => {
                let machine = machine % count;
                let ModelMachine {
                    id,
                    instance,
                    exists,
                    ..
                } = self.model.machines[machine];
                let outcome = match self.owner(instance).await {
                    Ok(owner) => {
                        self.world()
                            .authority
                            .rotate_machine_key(&owner, id, seconds)
                            .await
                    }
                    Err(error) => Err(error),
                };
                let new = match self.sort(act, outcome, exists) {
                    Outcome::Done(key) => Some(secret_of(key)),
                    Outcome::Lost => None,
                    Outcome::Refused => return,
                };
                self.model.machines[machine].rotated(now, seconds * 1000, new);
            }
            Act::Reveal(machine) => {
                let ModelMachine {
                    id,
                    instance,
                    exists,
                    ..
                } = self.model.machines[machine % count];
                let outcome = match self.owner(instance).await {
                    Ok(owner) => self.world().authority.reveal_machine_key(&owner, id).await,
                    Err(error) => Err(error),
                };
                // The limit of ten in a minute may be reached.
                let is_allowed = if exists == Truth::No {
                    Truth::No
                } else {
                    Truth::Maybe
                };
                self.sort(act, outcome, is_allowed);
            }
            Act::Issue(machine, kind, seconds) => {
                self.issue(act, machine % count, kind, seconds).await;
            }
            Act::Revoke(..) | Act::Extend(..) | Act::Verify(_) if self.model.tokens.is_empty() => {}
            Act::Revoke(token, by) => {
                let token = token % self.model.tokens.len();
                let (actor, is_found) = self.actor_on(token, by).await;
                let outcome = match actor {
                    Ok(actor) => {
                        self.world()
                            .authority
                            .revoke(&actor, self.model.tokens[token].id, None)
                            .await
                    }
                    Err(error) => Err(error),
                };
                let token_outcome = self.sort(act, outcome, is_found);
                let revoked = &mut self.model.tokens[token].revoked;
                match token_outcome {
                    Outcome::Done(_) => *revoked = Truth::Yes,
                    Outcome::Lost if *revoked == Truth::No && is_found != Truth::No => {
                        *revoked = Truth::Maybe;
                    }
                    Outcome::Lost | Outcome::Refused => {}
                }
            }
            Act::Extend(token, by, seconds) => {
                self.extend(act, token % self.model.tokens.len(), by, seconds)
                    .await;
            }
            Act::Verify(token) => {
                let token = &self.model.tokens[token % self.model.tokens.len()];
                for instance in 0..2 {
                    if let Ok(owner) = self.owner(instance).await {
                        let (key, _) = &self.instances[instance];
                        self.check(key, &owner, Verifier::Instance(instance), token)
                            .await;
                    }
                }
                for machine in 0..2 {
                    if let (Ok(actor), _) = self.machine(machine).await {
                        let key = self.model.machines[machine].keys.last().unwrap();
                        self.check(&key.secret, &actor, Verifier::Machine(machine), token)
                            .await;
                    }
                }
            }
            Act::EndTokens(machine) => {
                let machine = machine % count;
                let ModelMachine {
                    instance,
                    id,
                    exists,
                    ..
                } = self.model.machines[machine];
                self.end_tokens(act, instance, Some(id), exists).await;
            }
            Act::EndAllTokens(instance) => {
                self.end_tokens(act, instance % 2, None, Truth::Yes).await;
            }
            Act::WriteScopesClaim(instance, is_on) => {
                let outcome = match self.owner(instance % 2).await {
                    Ok(owner) => {
                        let update = SettingsUpdate {
                            jwt_scopes_claim: Some(is_on),
                            ..SettingsUpdate::default()
                        };
                        self.world()
                            .authority
                            .update_instance_settings(&owner, &update)
                            .await
                    }
                    Err(error) => Err(error),
                };
                self.sort(act, outcome, Truth::Yes);
            }
            Act::RotateSigningKey(instance) => {
                let outcome = match self.owner(instance % 2).await {
                    Ok(owner) => {
                        self.world()
                            .authority
                            .rotate_signing_key(&owner, true)
                            .await
                    }
                    Err(error) => Err(error),
                };
                self.sort(act, outcome, Truth::Yes);
            }
            Act::DeleteOldSigningKey(instance) => {
                self.delete_old_signing_key(act, instance % 2).await;
            }
            Act::Maintain => {
                let outcome = self.world().authority.maintain().await;
                self.sort(act, outcome, Truth::Yes);
            }
            Act::Restart => {
                // Like a server that is told to stop: it writes how far time has come.
                while self.world().authority.flush().await.is_err() {}
                let world = self.world.take().unwrap();
                world.store.rest(true);
                self.world = Some(world.restart().await);
            }
            Act::Advance(millis) => self.world().clock.advance(millis),
            Act::StepWall(millis) => self.world().clock.step_wall(millis),
        }
    }

    /// Ends the tokens of one machine of the instance, or of all.
    async fn end_tokens(
        &mut self,
        act: Act,
        instance: usize,
        machine: Option<MachineId>,
        exists: Truth,
    ) {
        let outcome = match self.owner(instance).await {
            Ok(owner) => self.world().authority.end_tokens(&owner, machine).await,
            Err(error) => Err(error),
        };
        let ended = match self.sort(act, outcome, exists) {
            Outcome::Done(_) => Truth::Yes,
            Outcome::Lost if exists != Truth::No => Truth::Maybe,
            Outcome::Lost | Outcome::Refused => return,
        };
        let Model {
            machines, tokens, ..
        } = &mut self.model;
        for token in tokens {
            let subject = &machines[token.machine];
            let is_meant =
                subject.instance == instance && machine.is_none_or(|machine| machine == subject.id);
            if is_meant && token.revoked != Truth::Yes {
                token.revoked = ended;
            }
        }
    }

    async fn create_machine(&mut self, act: Act, instance: usize, scope: usize) {
        let callee = &self.model.machines[scope];
        let (to, is_here) = (callee.id, callee.instance == instance);
        let is_allowed = if is_here { callee.exists } else { Truth::No };
        let request = MachineRequest {
            name: "new".into(),
            scoped_machines: vec![to.to_string()],
            default_token_ttl: Some(3600.into()),
        };
        let outcome = match self.owner(instance).await {
            Ok(owner) => self.world().authority.create_machine(&owner, request).await,
            Err(error) => Err(error),
        };
        if let Outcome::Done(created) = self.sort(act, outcome, is_allowed) {
            let id = created.id;
            let secret = created.secret_key.unwrap().0;
            let key = ModelKey {
                secret,
                end: End::never(),
            };
            let scopes = vec![(to, Truth::Yes)];
            self.model.machines.push(ModelMachine {
                id,
                instance,
                exists: Truth::Yes,
                keys: vec![key],
                scopes,
            });
        }
    }

    fn deleted(&mut self, machine: usize, exists: Truth) {
        let id = self.model.machines[machine].id;
        self.model.machines[machine].exists = exists;
        for other in &mut self.model.machines {
            if other.may_call(id) != Truth::No {
                other.set_scope(id, exists);
            }
        }
    }

    /// Both machines and whether a scope between them makes sense.
    fn ends(&self, from: usize, to: usize) -> (usize, MachineId, MachineId, Truth) {
        let (caller, callee) = (&self.model.machines[from], &self.model.machines[to]);
        let is_sane = from != to && caller.instance == callee.instance;
        let exist = if caller.exists == Truth::Yes {
            callee.exists
        } else {
            caller.exists
        };
        let is_sane = match (is_sane, callee.exists) {
            (false, _) | (_, Truth::No) => Truth::No,
            _ => exist,
        };
        (caller.instance, caller.id, callee.id, is_sane)
    }

    async fn add_scope(&mut self, act: Act, from: usize, to: usize) {
        let (instance, caller, callee, is_sane) = self.ends(from, to);
        let before = self.model.machines[from].may_call(callee);
        let is_allowed = match (is_sane, before) {
            (Truth::No, _) | (_, Truth::Yes) => Truth::No,
            (Truth::Yes, Truth::No) => Truth::Yes,
            _ => Truth::Maybe,
        };
        let outcome = match self.owner(instance).await {
            Ok(owner) => {
                self.world()
                    .authority
                    .create_scope(&owner, caller, callee)
                    .await
            }
            Err(error) => Err(error),
        };
        match self.sort(act, outcome, is_allowed) {
            Outcome::Done(_) => self.model.machines[from].set_scope(callee, Truth::Yes),
            Outcome::Lost if is_allowed != Truth::No => {
                self.model.machines[from].set_scope(callee, Truth::Maybe);
            }
            Outcome::Lost | Outcome::Refused => {}
        }
    }

    async fn remove_scope(&mut self, act: Act, from: usize, to: usize) {
        let (instance, caller, callee, is_sane) = self.ends(from, to);
        let before = self.model.machines[from].may_call(callee);
        let is_allowed = if is_sane == Truth::No {
            Truth::No
        } else {
            before
        };
        let outcome = match self.owner(instance).await {
            Ok(owner) => {
                self.world()
                    .authority
                    .delete_scope(&owner, caller, callee)
                    .await
            }
            Err(error) => Err(error),
        };
        match self.sort(act, outcome, is_allowed) {
            Outcome::Done(_) => self.model.machines[from].set_scope(callee, Truth::No),
            Outcome::Lost if is_allowed != Truth::No => {
                self.model.machines[from].set_scope(callee, Truth::Maybe);
            }
            Outcome::Lost | Outcome::Refused => {}
        }
    }

    async fn issue(&mut self, act: Act, machine: usize, kind: Kind, seconds: f64) {
        let now = self.now();
        let request = match kind {
            Kind::Opaque => opaque(),
            Kind::Jwt => claiming(r#"{"role":"bot"}"#, jwt()),
            Kind::Pooled(min) => pooled(min),
        };
        let (actor, works) = self.machine(machine).await;
        let outcome = match actor {
            Ok(actor) => {
                self.world()
                    .authority
                    .issue(&actor, &lasting(seconds, request))
                    .await
            }
            Err(error) => Err(error),
        };
        let issued = match self.sort(act, outcome, works) {
            Outcome::Done(issued) => issued,
            Outcome::Lost => {
                self.model.has_lost_mints = true;
                return;
            }
            Outcome::Refused => return,
        };
        let body = &issued.body;
        let scopes: Vec<MachineId> = body.scopes.iter().map(|id| id.parse().unwrap()).collect();
        let id = self.model.machines[machine].id;
        assert_eq!(body.subject, id);
        if let Kind::Pooled(min) = kind {
            let fits =
                |token: &&ModelToken| self.model.is_reusable(token, machine, min * 1000, now);
            let known = self
                .model
                .tokens
                .iter()
                .find(|token| token.id == body.id && fits(token).may_be(true));
            let must = self
                .model
                .tokens
                .iter()
                .filter(|token| fits(token) == Truth::Yes);
            let longest = must.map(|token| token.end.earliest).max();
            match known {
                Some(token) => {
                    assert!(issued.is_reused && token.string == string_of(&issued));
                    assert!(
                        longest.is_none_or(|longest| token.end.latest >= longest),
                        "{act:?}"
                    );
                    return;
                }
                None if issued.is_reused => assert!(self.model.has_lost_mints, "{act:?}"),
                None => assert!(longest.is_none(), "{act:?}: an equal token is there"),
            }
        }
        for (to, truth) in &self.model.machines[machine].scopes {
            assert!(truth.may_be(scopes.contains(to)), "{act:?}");
        }
        let string = string_of(&issued).to_owned();
        let signed = UnverifiedJwt::parse(&string).ok().map(|jwt| {
            (
                jwt.key_id(),
                super::payload_of(&string).get("scopes").is_some(),
            )
        });
        self.model.tokens.push(ModelToken {
            id: body.id,
            machine,
            scopes,
            end: End::at(body.expiration.unwrap().as_millis()),
            revoked: Truth::No,
            signed,
            is_key_gone: Truth::No,
            pooled: matches!(kind, Kind::Pooled(_)).into(),
            string,
        });
    }

    async fn extend(&mut self, act: Act, token: usize, by: By, seconds: f64) {
        let now = self.now();
        let (actor, is_found) = self.actor_on(token, by).await;
        let request = UpdateRequest {
            seconds_until_expiration: Some(Some(seconds.into())),
            ..UpdateRequest::default()
        };
        let ModelToken {
            id,
            revoked,
            end,
            ref signed,
            ..
        } = self.model.tokens[token];
        let is_allowed = [
            is_found,
            signed.is_none().into(),
            not(revoked),
            not(end.is_over(now)),
        ];
        let is_allowed = is_allowed
            .into_iter()
            .min_by_key(|truth| *truth as u8)
            .unwrap();
        let outcome = match actor {
            Ok(actor) => {
                self.world()
                    .authority
                    .update_token(&actor, id, request)
                    .await
            }
            Err(error) => Err(error),
        };
        #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
        let new_end = now + (seconds * 1000.0) as i64;
        let outcome = self.sort(act, outcome, is_allowed);
        let token = &mut self.model.tokens[token];
        match outcome {
            Outcome::Done(body) => {
                token.end = End::at(new_end);
                assert_eq!(body.expiration.unwrap().as_millis(), new_end);
                token.pooled = Truth::No;
            }
            Outcome::Lost if is_allowed != Truth::No => {
                token.end = token.end.or(new_end);
                if token.pooled == Truth::Yes {
                    token.pooled = Truth::Maybe;
                }
            }
            Outcome::Lost | Outcome::Refused => {}
        }
    }

    async fn delete_old_signing_key(&mut self, act: Act, instance: usize) {
        let world = self.world();
        let Ok(owner) = self.owner(instance).await else {
            return;
        };
        let Ok(keys) = world.authority.signing_keys(&owner).await else {
            return;
        };
        let Some(old) = keys.iter().find(|key| key.state == "verify_only") else {
            return;
        };
        let kid = old.kid;
        let outcome = world.authority.delete_signing_key(&owner, kid).await;
        let gone = match self.sort(act, outcome, Truth::Yes) {
            Outcome::Done(()) => Truth::Yes,
            Outcome::Refused | Outcome::Lost => Truth::Maybe,
        };
        let signed =
            |token: &&mut ModelToken| token.signed.is_some_and(|(signer, _)| signer == kid);
        for token in self.model.tokens.iter_mut().filter(signed) {
            token.is_key_gone = gone;
        }
    }

    /// Lets an actor, and whoever presents its key, verify a token.
    async fn check(&self, key: &str, actor: &Actor, verifier: Verifier, token: &ModelToken) {
        let authority = &self.world().authority;
        let expected = self.model.answers(verifier, token, self.now());
        let outcomes = [
            authority.verify(actor, &token.string).await,
            authority.verify_presented(key, &token.string).await,
        ];
        for outcome in outcomes {
            let answer = match outcome {
                Ok(body) => {
                    assert_eq!(
                        (body.id, body.revoked, body.expired),
                        (token.id, false, false)
                    );
                    Answer::Valid
                }
                Err(Error::TokenRefused { refusal, .. }) => Answer::Refused(refusal),
                Err(Error::Unavailable(_)) if self.is_faulty => continue,
                Err(error) => panic!("{verifier:?} on {token:?}: {error}"),
            };
            let place = Self::ANSWERS.iter().position(|known| *known == answer);
            let seen = &self.seen[place.unwrap()];
            seen.set(seen.get() + 1);
            assert!(
                expected.contains(&answer),
                "{verifier:?} on {token:?}: {answer:?}, not one of {expected:?}"
            );
        }
    }

    /// Lets every actor verify every token, and tries every key.
    pub(crate) async fn check_all(&self) {
        self.world().store.rest(true);
        let mut actors = Vec::new();
        for (instance, (key, _)) in self.instances.iter().enumerate() {
            let owner = self.owner(instance).await.unwrap();
            actors.push((key, owner, Verifier::Instance(instance)));
        }
        for (number, machine) in self.model.machines.iter().enumerate() {
            let mut found = None;
            for key in &machine.keys {
                let authority = Arc::clone(&self.world().authority);
                let actor = authority.authenticate(&key.secret, Accepts::Machine).await;
                let is_over = key.end.is_over(self.now());
                if machine.exists == Truth::No || is_over == Truth::Yes {
                    assert!(actor.is_err(), "{machine:?}");
                } else if machine.exists == Truth::Yes && is_over == Truth::No {
                    assert!(actor.is_ok(), "{machine:?}: {actor:?}");
                }
                let verifier = Verifier::Machine(number);
                found = actor
                    .ok()
                    .map(|actor| (&key.secret, actor, verifier))
                    .or(found);
            }
            actors.extend(found);
        }
        for (key, actor, verifier) in &actors {
            for token in &self.model.tokens {
                self.check(key, actor, *verifier, token).await;
            }
        }
        self.world().store.rest(false);
    }

    /// How often each answer was given.
    pub(crate) fn seen(&self) -> [u32; 5] {
        self.seen.each_ref().map(Cell::get)
    }

    /// The logs of both instances are whole.
    pub(crate) async fn check_logs(&self) {
        self.world().store.rest(true);
        for instance in 0..2 {
            let owner = self.owner(instance).await.unwrap();
            let report = self
                .world()
                .authority
                .verify_audit(&owner, None)
                .await
                .unwrap();
            assert_eq!(report.first_broken, None);
        }
        self.world().store.rest(false);
    }
}
