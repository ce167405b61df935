//! What is compared with what, and which figure is wanted.
//!
//! One function per section of the report. Ratios against a cheaper yardstick say which share of our
//! cost the yardstick would have had (1 would be as cheap); ratios against oidc-provider say how many
//! times cheaper we are. The yardstick receives the same request bytes and answers as many body bytes.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::candidate::{Candidate, Figures, Http, Plan, alternate};
use crate::deployment::{Deployment, ISSUED, VERIFIED};
use crate::in_process;
use crate::load::BARE;
use crate::metrics::IndexState;
use crate::oidc;
use crate::process::Server;
use crate::report::{Check, Section, Table, Target};
use crate::requests::Requests;
use crate::signature::Signature;

/// Live tokens stored in the deployments of the growth comparison; the middle one serves all others.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub small: usize,
    pub usual: usize,
    pub large: usize,
    /// A bound of the index, in MiB, that is too small for the large store.
    pub small_index_mib: u32,
}

/// The sitting: settings, programs, and the deployment that most comparisons share.
#[derive(Debug)]
pub struct Bench {
    pub plan: Plan,
    pub sizes: Sizes,
    /// The product's executable.
    pub executable: PathBuf,
    /// Where this package's other programs lie.
    pub programs: PathBuf,
    /// Data folders and logs of this sitting.
    pub work: PathBuf,
    pub usual: OnceCell<Deployment>,
}

impl Bench {
    /// The same server twice: what the method itself cannot tell apart.
    pub fn noise(&self) -> Result<Section> {
        let servers = [self.bare("noise-a", 400)?, self.bare("noise-b", 400)?];
        let [a, b] = &servers;
        let requests = || {
            let body = r#"{"token":"mt_0000000000000000000000000000000000000000000"}"#;
            let path = "/m2m_tokens/verify";
            let bytes = crate::http::post(path, Some("ak_0"), crate::http::JSON, body);
            Requests::in_turn(vec![bytes])
        };
        let [mut a, mut b] = [("once", a), ("again", b)].map(|(name, server)| Http {
            name: format!("bare hyper, {name}"),
            server,
            requests: requests(),
            expected: BARE,
        });
        let figures = self.compare(&mut [&mut a, &mut b])?;
        Ok(Section {
            title: "Noise: the same server twice",
            lead: "Differences below this one mean nothing.".to_owned(),
            tables: vec![Table::of_figures(&figures)],
            checks: vec![],
        })
    }

    pub fn verify(&self) -> Result<Section> {
        let deployment = self.usual()?;
        let mut ours = verification(deployment)?;
        let server = self.bare("bare-verify", ours.body_bytes()?)?;
        let mut bare = bare_candidate(&server, deployment.verifications()?);
        let before = deployment.index_state()?;
        let figures = self.compare(&mut [&mut ours, &mut bare])?;
        let ratio = ratio(&figures, "bare hyper", &ours.name);
        Ok(Section {
            title: "Verify an opaque token",
            lead: format!(
                "The caller is authenticated by its machine key; \
                 {} live tokens are stored and looked up at random.",
                deployment.stored()
            ),
            tables: vec![
                Table::of_figures(&figures),
                index_table(&[(deployment, before)])?,
            ],
            checks: vec![Check {
                what: "bare hyper ÷ verify",
                measured: ratio,
                target: Target::AtLeast(0.60),
                goal: Some(0.90),
            }],
        })
    }

    pub fn issue(&self) -> Result<Section> {
        let deployment = self.usual()?;
        let mut ours = issue(deployment, "issue opaque, durable");
        let server = self.bare("bare-issue", ours.body_bytes()?)?;
        let mut bare = bare_candidate(&server, deployment.issues("opaque"));
        let off = self.storage_off()?;
        let mut off = issue(&off, "issue opaque, storage off");

        let figures = self.compare(&mut [&mut ours, &mut bare, &mut off])?;
        Ok(Section {
            title: "Issue opaque tokens durably",
            lead: format!(
                "{} clients at once, each answer sent after its token is on disk; \
                 filling the store had run at {:.0} tokens a second. \
                 With storage off, the same crates acknowledge a token without writing it.",
                self.plan.connections, deployment.seed_rate
            ),
            tables: vec![Table::of_figures(&figures)],
            checks: vec![
                Check {
                    what: "bare hyper ÷ issue",
                    measured: ratio(&figures, "bare hyper", &ours.name),
                    target: Target::AtLeast(0.25),
                    goal: Some(0.40),
                },
                Check {
                    what: "storage off ÷ issue",
                    measured: ratio(&figures, &off.name, &ours.name),
                    target: Target::AtLeast(0.5),
                    goal: None,
                },
            ],
        })
    }

    pub fn jwt(&self) -> Result<Section> {
        let deployment = self.usual()?;
        let mut ours = Http {
            name: "issue JWT, durable".to_owned(),
            server: deployment.server(),
            requests: deployment.issues("jwt"),
            expected: ISSUED,
        };
        let mut signature = Signature::new()?;
        let figures = self.compare(&mut [&mut ours, &mut signature])?;
        Ok(Section {
            title: "Issue JWTs",
            lead: "Against the signature alone, made by the crypto library with a parsed key."
                .to_owned(),
            tables: vec![Table::of_figures(&figures)],
            checks: vec![Check {
                what: "bare signature ÷ issue JWT",
                measured: ratio(&figures, signature.name(), &ours.name),
                target: Target::AtLeast(0.85),
                goal: None,
            }],
        })
    }

    pub fn introspection(&self) -> Result<Section> {
        let deployment = self.usual()?;
        let server = oidc::start(&self.work)?;
        let mut theirs = oidc::introspections(&server)?;
        let mut ours = verification(deployment)?;
        let node = oidc::start_bare(&self.work, theirs.body_bytes()?)?;
        let mut node = oidc::bare(&node)?;
        let hyper = self.bare("bare-introspection", ours.body_bytes()?)?;
        let mut hyper = bare_candidate(&hyper, deployment.verifications()?);
        let figures = self.compare(&mut [&mut ours, &mut theirs, &mut hyper, &mut node])?;
        let above = |name, bare: &Http<'_>| cost(&figures, name) - cost(&figures, &bare.name);
        Ok(Section {
            title: "Verify against introspection of oidc-provider",
            lead: format!(
                "oidc-provider keeps 500 tokens in memory, ours {} on disk. Bare hyper, which does nothing \
                 but answer, would be {:.1} times cheaper: more than that no work on verification can reach. \
                 The second line leaves out what the two HTTP servers cost by themselves.",
                deployment.stored(),
                ratio(&figures, &theirs.name, &hyper.name),
            ),
            tables: vec![Table::of_figures(&figures)],
            checks: vec![
                Check {
                    what: "times cheaper than introspection",
                    measured: ratio(&figures, &theirs.name, &ours.name),
                    target: Target::AtLeast(12.0),
                    goal: Some(20.0),
                },
                Check {
                    what: "the same, above the bare servers",
                    measured: above(&theirs.name, &node) / above(&ours.name, &hyper),
                    target: Target::AtLeast(12.0),
                    goal: Some(20.0),
                },
            ],
        })
    }

    pub fn grant(&self) -> Result<Section> {
        let deployment = self.usual()?;
        let server = oidc::start(&self.work)?;
        let mut theirs = oidc::grants(&server)?;
        let mut ours = issue(deployment, "issue opaque, durable");
        let figures = self.compare(&mut [&mut ours, &mut theirs])?;
        Ok(Section {
            title: "Durable issue against the undurable grant of oidc-provider",
            lead: "oidc-provider forgets its tokens when it stops; ours are on disk.".to_owned(),
            tables: vec![Table::of_figures(&figures)],
            checks: vec![Check {
                what: "times cheaper than a grant",
                measured: ratio(&figures, &theirs.name, &ours.name),
                target: Target::AtLeast(6.0),
                goal: Some(10.0),
            }],
        })
    }

    pub fn growth(&self) -> Result<Section> {
        let usual = self.usual()?;
        let small = self.deployment("small", self.sizes.small)?;
        let large = self.deployment("large", self.sizes.large)?;
        let (large, cramped) = large.with_copy(
            &self.executable,
            &self.work.join("cramped"),
            self.sizes.small_index_mib,
        )?;
        let stores = [&small, usual, &large, &cramped];

        let mut opened = Vec::new();
        let mut before = Vec::new();
        for store in stores {
            opened.push(store.server().resident_bytes()?);
            before.push((store, store.index_state()?));
        }
        let mut candidates = Vec::new();
        for store in stores {
            candidates.push(verification(store)?);
        }
        let mut candidates: Vec<_> = candidates
            .iter_mut()
            .map(|candidate| candidate as &mut dyn Candidate)
            .collect();
        let figures = self.compare(&mut candidates)?;

        let mut rows = Vec::new();
        for (store, opened) in stores.iter().zip(opened) {
            rows.push(vec![
                store.label(),
                format!("{:.2}", store.restart.as_secs_f64()),
                format!("{:.1}", store.index_fill.as_secs_f64()),
                mebibytes(store.empty_bytes),
                mebibytes(opened),
                mebibytes(store.server().resident_bytes()?),
                mebibytes(store.disk_bytes()?),
            ]);
        }
        let of_default = figures.iter().take(3);
        let medians = of_default.map(|figures| figures.median.processor);
        let cheapest = medians.clone().fold(f64::MAX, f64::min);
        let spread = medians.fold(f64::MIN, f64::max) / cheapest;
        let grown = large.server().resident_bytes()?;
        let grown = grown.saturating_sub(small.server().resident_bytes()?);
        let tokens = large.index_state()?.tokens;
        let tokens = tokens.saturating_sub(small.index_state()?.tokens);
        Ok(Section {
            title: "Growth",
            lead: "Verification with more and more live tokens stored, \
                   and what they take of memory and disk. The index has its default bound, a quarter of the memory; \
                   the last line shows the largest store with one that is too small for it."
                .to_owned(),
            tables: vec![
                Table::of_figures(&figures),
                index_table(&before)?,
                Table {
                    headers: vec![
                        "tokens",
                        "start s",
                        "index filled s",
                        "empty MiB",
                        "started MiB",
                        "after load MiB",
                        "disk MiB",
                    ],
                    rows,
                },
            ],
            checks: vec![
                Check {
                    what: "dearest ÷ cheapest size",
                    measured: spread,
                    target: Target::AtMost(1.5),
                    goal: None,
                },
                Check {
                    what: "bytes of memory per token in the index",
                    measured: grown as f64 / tokens as f64,
                    target: Target::AtMost(250.0),
                    goal: None,
                },
            ],
        })
    }

    /// The parts of a verification, on the data of the usual deployment while its server rests.
    pub fn in_process(&mut self) -> Result<Section> {
        self.usual()?;
        let deployment = self.usual.get_mut().expect("it was made above");
        deployment.stop()?;
        let section = in_process::section(&self.plan, deployment)?;
        deployment.restart(&self.executable)?;
        Ok(section)
    }

    pub(crate) fn compare(&self, candidates: &mut [&mut dyn Candidate]) -> Result<Vec<Figures>> {
        alternate(&self.plan, candidates)
    }

    /// Returns the deployment with the usual number of tokens, made when it is first needed.
    fn usual(&self) -> Result<&Deployment> {
        if self.usual.get().is_none() {
            let deployment = self.deployment("usual", self.sizes.usual)?;
            let _ = self.usual.set(deployment);
        }
        Ok(self.usual.get().expect("it was set above"))
    }

    /// Serves a store of its own with so many tokens.
    pub(crate) fn deployment(&self, name: &str, tokens: usize) -> Result<Deployment> {
        self.serve_with(&self.executable, name, tokens)
    }

    /// Serves an empty store with the variant that keeps no tokens.
    fn storage_off(&self) -> Result<Deployment> {
        self.serve_with(&self.programs.join("storage-off"), "storage-off", 0)
    }

    fn serve_with(&self, program: &Path, name: &str, tokens: usize) -> Result<Deployment> {
        ensure!(
            self.executable.exists(),
            "{} is missing: build it with cargo build --profile dist, or name another with COUNTERSIGN_BIN",
            self.executable.display()
        );
        Deployment::start(&self.executable, program, &self.work.join(name), tokens)
    }

    fn bare(&self, name: &str, body_bytes: usize) -> Result<Server> {
        let size = body_bytes.to_string();
        let program = self.programs.join("bare-hyper");
        let arguments = ["--threads", "1", "--body-bytes", &size];
        let patience = Duration::from_secs(10);
        Server::start_pinned(&program, &self.work.join(name), &arguments, patience)
    }
}

fn verification(deployment: &Deployment) -> Result<Http<'_>> {
    Ok(Http {
        name: verification_name(deployment),
        server: deployment.server(),
        requests: deployment.verifications()?,
        expected: VERIFIED,
    })
}

fn verification_name(deployment: &Deployment) -> String {
    format!("verify, {}", deployment.label())
}

fn issue<'a>(deployment: &'a Deployment, name: &str) -> Http<'a> {
    Http {
        name: name.to_owned(),
        server: deployment.server(),
        requests: deployment.issues("opaque"),
        expected: ISSUED,
    }
}

fn bare_candidate(server: &Server, requests: Requests) -> Http<'_> {
    Http {
        name: "bare hyper".to_owned(),
        server,
        requests,
        expected: BARE,
    }
}

/// Returns how many times dearer the candidate called `dividend` is than the one called `divisor`.
fn ratio(figures: &[Figures], dividend: &str, divisor: &str) -> f64 {
    cost(figures, dividend) / cost(figures, divisor)
}

/// Returns the processor time per answer of the candidate called `name`, in microseconds.
fn cost(figures: &[Figures], name: &str) -> f64 {
    let of_name = figures.iter().find(|figures| figures.name == name);
    let of_name = of_name.expect("every candidate has figures under its name");
    of_name.median.processor
}

/// Says which part of the tokens was in memory before a measurement, and where its reads were answered from.
fn index_table(measured: &[(&Deployment, IndexState)]) -> Result<Table> {
    let mut rows = Vec::new();
    for (deployment, before) in measured {
        let reads = deployment.index_state()?.reads_since(before);
        let share = before.tokens as f64 / deployment.stored() as f64;
        rows.push(vec![
            deployment.label(),
            before.tokens.to_string(),
            format!("{:.1} %", share * 100.0),
            format!("{:.2} %", reads.hits * 100.0),
            format!("{:.3}", reads.misses_per_verification),
        ]);
    }
    Ok(Table {
        headers: vec![
            "tokens",
            "in memory",
            "share",
            "reads answered from memory",
            "from the database per verification",
        ],
        rows,
    })
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0 / 1024.0)
}
