//! Families of series in Prometheus text.

use std::fmt;

use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, MetricEncoder,
    NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use selvedge_core::stats::Histogram;

/// Writes families of series.
pub(super) struct Families<'a> {
    pub encoder: DescriptorEncoder<'a>,
}

impl Families<'_> {
    /// The encoder appends `_total` to the name.
    pub(super) fn counters<L: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Counter;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            let mut metric = family.encode_family(&labels)?;
            metric.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
        }
        Ok(())
    }

    pub(super) fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let kind = MetricType::Gauge;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in series {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// One counter without labels.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: &impl EncodeCounterValue,
    ) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(value, None)
    }

    /// One gauge without labels.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: &impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)
    }

    /// In milliseconds.
    pub(super) fn histograms<'h, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (L, &'h Histogram)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, histogram) in series {
            encode_histogram(family.encode_family(&labels)?, histogram, 1.0)?;
        }
        Ok(())
    }

    /// One histogram without labels, in seconds.
    pub(super) fn histogram_seconds(
        &mut self,
        name: &str,
        help: &str,
        histogram: &Histogram,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let family = self.encoder.encode_descriptor(name, help, None, kind)?;
        encode_histogram(family, histogram, 1000.0)
    }

    /// The encoder appends `_info` to the name.
    pub(super) fn info(
        &mut self,
        name: &str,
        help: &str,
        labels: &impl EncodeLabelSet,
    ) -> fmt::Result {
        let kind = MetricType::Info;
        self.encoder.encode_descriptor(name, help, None, kind)?.encode_info(labels)
    }
}

/// `millis`: how many of them are one of the unit that is shown.
fn encode_histogram(
    mut metric: MetricEncoder<'_>,
    histogram: &Histogram,
    millis: f64,
) -> fmt::Result {
    let bounds = Histogram::BOUNDS_MS.iter().map(|&bound| f64::from(bound) / millis);
    let buckets: Vec<(f64, u64)> = bounds.chain([f64::INFINITY]).zip(histogram.buckets).collect();
    let sum = histogram.sum_micros as f64 / 1000.0 / millis;
    metric.encode_histogram::<NoLabelSet>(sum, histogram.count(), &buckets, None)
}
