//! What an authority should answer, worked out in memory from what was done to it. Where an act ended in a fault, nobody
//! knows whether it took effect; the model then allows both answers and no third one.

use countersign_authority::Refusal;
use countersign_protocol::ids::{MachineId, SigningKeyId, TokenId};

/// How long after its end a JWT still passes.
const JWT_LEEWAY: i64 = 5_000;
/// How long after its end a JWT's key may be gone, less one second.
const KEY_KEPT: i64 = 59_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    No,
    Maybe,
    Yes,
}

impl Truth {
    pub(crate) fn may_be(self, is_true: bool) -> bool {
        self == Self::Maybe || (self == Self::Yes) == is_true
    }
}

impl From<bool> for Truth {
    fn from(is_true: bool) -> Self {
        if is_true { Self::Yes } else { Self::No }
    }
}

/// The end of something: sure not before `earliest`, sure from `latest`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) earliest: i64,
    pub(crate) latest: i64,
}

impl End {
    pub(crate) fn at(time: i64) -> Self {
        Self {
            earliest: time,
            latest: time,
        }
    }

    pub(crate) fn never() -> Self {
        Self::at(i64::MAX)
    }

    /// It may have been moved to another time.
    pub(crate) fn or(self, time: i64) -> Self {
        Self {
            earliest: self.earliest.min(time),
            latest: self.latest.max(time),
        }
    }

    /// It is cut at a time, for sure or perhaps.
    pub(crate) fn cut(&mut self, time: i64, is_sure: bool) {
        self.earliest = self.earliest.min(time);
        if is_sure {
            self.latest = self.latest.min(time);
        }
    }

    pub(crate) fn is_over(self, now: i64) -> Truth {
        match now {
            now if now >= self.latest => Truth::Yes,
            now if now < self.earliest => Truth::No,
            _ => Truth::Maybe,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Valid,
    Refused(Refusal),
}

#[derive(Debug)]
pub(crate) struct ModelKey {
    pub(crate) secret: String,
    pub(crate) end: End,
}

#[derive(Debug)]
pub(crate) struct ModelMachine {
    pub(crate) id: MachineId,
    pub(crate) instance: usize,
    pub(crate) exists: Truth,
    /// Oldest first.
    pub(crate) keys: Vec<ModelKey>,
    /// Whom it may call; whoever is not here it may not.
    pub(crate) scopes: Vec<(MachineId, Truth)>,
}

impl ModelMachine {
    pub(crate) fn may_call(&self, other: MachineId) -> Truth {
        let found = self.scopes.iter().find(|(to, _)| *to == other);
        found.map_or(Truth::No, |(_, truth)| *truth)
    }

    pub(crate) fn set_scope(&mut self, other: MachineId, truth: Truth) {
        self.scopes.retain(|(to, _)| *to != other);
        if truth != Truth::No {
            self.scopes.push((other, truth));
        }
    }

    /// Notes a rotation that left older keys so much time.
    pub(crate) fn rotated(&mut self, now: i64, ttl_millis: i64, new: Option<String>) {
        for key in &mut self.keys {
            key.end.cut(now + ttl_millis, new.is_some());
        }
        if let Some(secret) = new {
            self.keys.push(ModelKey {
                secret,
                end: End::never(),
            });
            self.keys.retain(|key| key.end.is_over(now) != Truth::Yes);
            let beyond = self.keys.len().saturating_sub(5);
            self.keys.drain(..beyond);
        }
    }
}

#[derive(Debug)]
pub(crate) struct ModelToken {
    pub(crate) id: TokenId,
    pub(crate) string: String,
    pub(crate) machine: usize,
    pub(crate) scopes: Vec<MachineId>,
    pub(crate) end: End,
    pub(crate) revoked: Truth,
    /// For a JWT: its key, and whether the authority wrote the scopes into it.
    pub(crate) signed: Option<(SigningKeyId, bool)>,
    pub(crate) is_key_gone: Truth,
    /// Whether it can be handed out again.
    pub(crate) pooled: Truth,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verifier {
    Instance(usize),
    Machine(usize),
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) machines: Vec<ModelMachine>,
    pub(crate) tokens: Vec<ModelToken>,
    /// Whether a pooled token may exist that nobody was told of.
    pub(crate) has_lost_mints: bool,
}

impl Model {
    /// All answers that would be right.
    pub(crate) fn answers(&self, verifier: Verifier, token: &ModelToken, now: i64) -> Vec<Answer> {
        let subject = &self.machines[token.machine];
        let instance = match verifier {
            Verifier::Instance(instance) => instance,
            Verifier::Machine(machine) => self.machines[machine].instance,
        };
        let mut end = token.end;
        let mut key_gone = token.is_key_gone;
        if token.signed.is_some() {
            if now >= end.earliest.saturating_add(KEY_KEPT) && key_gone == Truth::No {
                key_gone = Truth::Maybe;
            }
            end.earliest = end.earliest.saturating_add(JWT_LEEWAY);
            end.latest = end.latest.saturating_add(JWT_LEEWAY);
        }
        let in_scope = match (verifier, token.signed) {
            (Verifier::Instance(_), _) => Truth::Yes,
            (Verifier::Machine(verifier), Some((_, false))) => {
                subject.may_call(self.machines[verifier].id)
            }
            (Verifier::Machine(verifier), _) => {
                token.scopes.contains(&self.machines[verifier].id).into()
            }
        };
        let mut answers = Vec::new();
        for (obstacle, refusal) in [
            (Truth::from(instance != subject.instance), Refusal::Unknown),
            (not(subject.exists), Refusal::Unknown),
            (key_gone, Refusal::Unknown),
            (not(in_scope), Refusal::NotInScope),
            (token.revoked, Refusal::Revoked),
            (end.is_over(now), Refusal::Expired),
        ] {
            if obstacle.may_be(true) {
                answers.push(Answer::Refused(refusal));
            }
            if obstacle == Truth::Yes {
                return answers;
            }
        }
        answers.push(Answer::Valid);
        answers
    }

    /// Whether a pooled request may, or must, get this token. `min_remaining` in milliseconds.
    pub(crate) fn is_reusable(
        &self,
        token: &ModelToken,
        machine: usize,
        min_remaining: i64,
        now: i64,
    ) -> Truth {
        let scopes = &self.machines[machine].scopes;
        let fits = |(to, truth): &(MachineId, Truth)| match (token.scopes.contains(to), truth) {
            (_, Truth::Maybe) => Truth::Maybe,
            (is_there, _) => is_there.into(),
        };
        let has_no_other = token
            .scopes
            .iter()
            .all(|to| scopes.iter().any(|(scope, _)| scope == to));
        let lives = not(token.end.is_over(now));
        let is_long = not(token.end.is_over(now + min_remaining - 1));
        let conditions = [
            Truth::from(token.machine == machine && has_no_other),
            token.pooled,
            not(token.revoked),
            lives,
            is_long,
        ];
        conditions
            .into_iter()
            .chain(scopes.iter().map(fits))
            .min_by_key(|truth| *truth as u8)
            .unwrap_or(Truth::Yes)
    }
}

pub(crate) fn not(truth: Truth) -> Truth {
    match truth {
        Truth::No => Truth::Yes,
        Truth::Maybe => Truth::Maybe,
        Truth::Yes => Truth::No,
    }
}
