//! A real authority in this process, and a server that misbehaves.

pub(crate) mod scripted;
mod world;

pub(crate) use world::World;
