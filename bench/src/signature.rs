//! The yardstick for JWTs: bare RS256 signatures of the crypto library with a key parsed once.
//!
//! Measured on the server's core by the processor time of the signing thread, so that the figure
//! stands beside a server's processor time per issued token.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

use anyhow::{Context, Result};

use crate::candidate::{Candidate, Plan, Round};
use crate::clock::{now, thread_processor_time};
use crate::load::Latencies;
use crate::process::{LOAD_CORE, SERVER_CORE, pin_this_thread};

/// About the length of the signing input of an M2M JWT.
const MESSAGE: [u8; 400] = [b'x'; 400];

#[derive(Debug)]
pub struct Signature {
    key: KeyPair,
    random: SystemRandom,
}

impl Signature {
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048)
            .ok()
            .context("cannot make an RSA key")?;
        Ok(Self {
            key,
            random: SystemRandom::new(),
        })
    }

    fn sign(&self) -> Result<()> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &self.random, &MESSAGE, &mut signature)
            .ok()
            .context("cannot sign")
    }
}

impl Candidate for Signature {
    fn name(&self) -> &'static str {
        "bare RS256-2048 signature"
    }

    fn round(&mut self, plan: &Plan) -> Result<Round> {
        pin_this_thread(SERVER_CORE)?;
        let start = now();
        while start.elapsed() < plan.warm_up {
            self.sign()?;
        }
        let mut latencies = Latencies::default();
        let mut count = 0.0;
        let before = thread_processor_time();
        let start = now();
        while start.elapsed() < plan.window {
            let signing = now();
            self.sign()?;
            latencies.record(signing.elapsed());
            count += 1.0;
        }
        let elapsed = start.elapsed();
        let used = thread_processor_time() - before;
        pin_this_thread(LOAD_CORE)?;
        let milliseconds = |share| latencies.percentile(share).as_secs_f64() * 1e3;
        let [p50, p99] = [0.5, 0.99].map(milliseconds);
        Ok(Round {
            processor: used.as_secs_f64() * 1e6 / count,
            rate: count / elapsed.as_secs_f64(),
            p50,
            p99,
        })
    }
}
