#![doc = include_str!("README.md")]
pub mod balance;
pub mod dialect;
pub mod health;
pub mod stats;
