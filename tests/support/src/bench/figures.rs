//! This file summarises repeated measurements by median and spread.

// No bench uses all of these functions.
#![allow(dead_code)]

use std::fmt;

/// One figure per round.
#[derive(Clone, Default)]
pub struct Figures(pub Vec<f64>);

impl Figures {
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// The difference in each round. A disturbance of the machine slows both sides down and cancels out.
    pub fn beyond(&self, other: &Figures) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    /// The 95 % confidence interval of the median, by rank, whatever the distribution.
    pub fn median_interval(&self) -> (f64, f64) {
        let margin = 0.98 / (self.0.len() as f64).sqrt();
        (self.quantile((0.5 - margin).max(0.0)), self.quantile((0.5 + margin).min(1.0)))
    }

    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let place = share * (sorted.len() - 1) as f64;
        let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        low + (high - low) * place.fract()
    }
}

/// The median, and the quartiles.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        let (lower, upper) = (self.quantile(0.25), self.quantile(0.75));
        write!(f, "{:8.digits$} ({lower:.digits$} to {upper:.digits$})", self.median())
    }
}
