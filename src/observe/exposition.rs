//! Metric families as Prometheus reads them.
use super::metrics::{Metric, MetricKind};
use crate::fleet::Histogram;
use prometheus::{TextEncoder, proto};

/// The families of one scrape.
#[derive(Debug, Default)]
pub(super) struct Page {
    families: Vec<Family>,
}

/// One metric with its samples.
#[derive(Debug)]
pub(super) struct Family {
    metric: &'static Metric,
    samples: Vec<proto::Metric>,
}

impl Page {
    pub(super) fn family(&mut self, metric: &'static Metric) -> &mut Family {
        self.families.push(Family { metric, samples: Vec::new() });
        self.families.last_mut().expect("it was just put there")
    }

    /// The text; families without samples are left out.
    pub(super) fn render(self) -> String {
        let own = self.families.into_iter().filter(|family| !family.samples.is_empty());
        let families: Vec<_> = own.map(Family::finish).collect();
        let text = TextEncoder::new().encode_to_string(&families);
        text.expect("every family has a name and samples, and a String takes all of them")
    }
}

impl Family {
    pub(super) fn count(&mut self, labels: &[&str], n: u64) {
        self.total(labels, n as f64);
    }

    /// A counter of what comes in fractions.
    pub(super) fn total(&mut self, labels: &[&str], value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        self.sample(labels).set_counter(counter);
    }

    pub(super) fn gauge(&mut self, labels: &[&str], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        self.sample(labels).set_gauge(gauge);
    }

    pub(super) fn durations(&mut self, labels: &[&str], histogram: &Histogram) {
        let (buckets, count, sum) = histogram.cumulative();
        let buckets = buckets.into_iter().map(|(bound, at_or_below)| {
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound);
            bucket.set_cumulative_count(at_or_below);
            bucket
        });
        let mut all = proto::Histogram::default();
        all.set_bucket(buckets.collect());
        all.set_sample_count(count);
        all.set_sample_sum(sum);
        self.sample(labels).set_histogram(all);
    }

    fn sample(&mut self, labels: &[&str]) -> &mut proto::Metric {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        let pairs = self.metric.labels.iter().zip(labels).map(|(name, value)| {
            let mut pair = proto::LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        });
        let mut sample = proto::Metric::default();
        sample.set_label(pairs.collect());
        self.samples.push(sample);
        self.samples.last_mut().expect("it was just put there")
    }

    fn finish(self) -> proto::MetricFamily {
        let mut family = proto::MetricFamily::default();
        family.set_name(self.metric.name.to_owned());
        family.set_help(self.metric.help.to_owned());
        family.set_field_type(match self.metric.kind {
            MetricKind::Counter => proto::MetricType::COUNTER,
            MetricKind::Gauge => proto::MetricType::GAUGE,
            MetricKind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.samples);
        family
    }
}
