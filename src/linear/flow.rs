//! One logit, or another metric of the answer, split over nodes, heads' edges, MLPs and biases.

use tch::Tensor;

use super::contribution::dot;
use super::live::Through;
use super::map::LinearMap;
use super::norm::At;
use super::readout::Readout;
use crate::error::Result;

/// What passes through each part of the model on its way to one metric, or to one side of a head's score, in the frozen
/// map; layers are those before the score's. At every layer, the nodes,
/// the biases from that layer on, the interventions after it and the readout's constant sum to the metric's value.
#[derive(Debug)]
pub struct Flow {
    /// Through node (layer, position), [layer + 1, pos]
    pub node: Tensor,
    /// Through a head's edge, [layer, head, source, target]
    pub head: Tensor,
    /// Through an MLP, [layer, pos]
    pub mlp: Tensor,
    /// From the biases of attention and its norms, [layer]
    pub attention_bias: Tensor,
    /// From the biases of the MLP and its norms, [layer]
    pub mlp_bias: Tensor,
    /// From the biases of the final norm and the unembedding, or of a query or key itself
    pub final_bias: f64,
    /// From what interventions put into the residual stream before each layer and after the last, [layer + 1]; zeros
    /// in a run without them
    pub intervention: Vec<f64>,
}

/// What passes through one layer.
struct LayerFlow {
    /// [head, source, target]
    head: Tensor,
    /// [pos]
    mlp: Tensor,
    attention_bias: Tensor,
    mlp_bias: Tensor,
}

impl LinearMap {
    /// Splits a metric or a score.
    ///
    /// # Errors
    /// Interruption.
    pub fn flow(&self, readout: &Readout) -> Result<Flow> {
        let covectors = self.covectors_of(readout, Through::Values)?;
        let (depth, length) = (readout.node.0, self.length());
        let covector = |layer: usize| covectors.residual[layer].f_select(0, 0);
        let node = (0..=depth).map(|layer| dot(&covector(layer)?, self.residual(layer)));
        let node = node.collect::<Result<Vec<_>>>()?;
        let (mut head, mut mlp, mut attention_bias, mut mlp_bias) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for layer in 0..depth {
            let part = self.layer_flow(layer, &covectors.middle[layer].f_select(0, 0)?, &covector(layer + 1)?)?;
            head.push(part.head);
            mlp.push(part.mlp);
            attention_bias.push(part.attention_bias);
            mlp_bias.push(part.mlp_bias);
        }
        let mut intervention = vec![0.0; depth + 1];
        for (layer, change) in self.put_in()?.into_iter().filter(|(layer, _)| *layer <= depth) {
            intervention[layer] = dot(&covectors.residual[layer], &change)?.f_sum(None)?.f_double_value(&[])?;
        }
        Ok(Flow {
            node: Tensor::f_stack(&node, 0)?,
            head: self.stacked(&head, &[self.config().n_heads, length, length])?,
            mlp: self.stacked(&mlp, &[length])?,
            attention_bias: self.stacked(&attention_bias, &[])?,
            mlp_bias: self.stacked(&mlp_bias, &[])?,
            final_bias: self.final_bias(readout)?,
            intervention,
        })
    }

    /// One tensor of all layers; `shape` is that of one.
    fn stacked(&self, layers: &[Tensor], shape: &[i64]) -> Result<Tensor> {
        if layers.is_empty() {
            return self.zeros(&[&[0], shape].concat());
        }
        Ok(Tensor::f_stack(layers, 0)?)
    }

    /// What passes through a layer, from the metric's covectors after its attention and after the layer, [pos,
    /// d_model].
    fn layer_flow(&self, index: usize, middle: &Tensor, after: &Tensor) -> Result<LayerFlow> {
        let layer = self.layer(index);
        let residual = self.residual(index);
        let values = layer.values(residual, At::Prompt, false)?;
        let wanted = layer.attention_out_transposed(middle, At::Prompt)?;
        // [head, target, source]: how well each value fits what its target's covector asks for
        let fit = wanted.f_permute([1, 0, 2])?.f_matmul(&values.f_permute([1, 2, 0])?)?;
        let x = residual.f_unsqueeze(0)?;
        let attention = layer.attention(&x, true)?;
        let bias = attention.f_sub(&layer.attention(&x, false)?)?.f_select(0, 0)?;
        let input = if layer.is_parallel() { x } else { x.f_add(&attention)? }.f_select(0, 0)?;
        let linear = layer.mlp_out(&input, At::Prompt, false)?;
        let mlp_bias = layer.mlp_out(&input, At::Prompt, true)?.f_sub(&linear)?;
        Ok(LayerFlow {
            head: fit.f_mul(&layer.frozen().pattern)?.f_transpose(1, 2)?,
            mlp: dot(after, &linear)?,
            attention_bias: dot(middle, &bias)?.f_sum(None)?,
            mlp_bias: dot(after, &mlp_bias)?.f_sum(None)?,
        })
    }
}
