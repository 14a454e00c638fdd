//! The residual stream before a layer at one position as a sum of sources: embedding, heads, MLPs, biases and
//! interventions.

use tch::Tensor;

use super::map::LinearMap;
use super::norm::At;
use crate::error::Result;
use crate::interrupt;

/// What adds to the residual stream at one position.
#[derive(Debug)]
pub struct Sources {
    /// TransformerLens's names: `embed`, `pos_embed`, `L3H7`, `3_mlp_out`, `bias`; and `intervention`
    pub labels: Vec<String>,
    /// What each adds, [source, d_model]
    pub vectors: Tensor,
}

/// The name of what is added by no other source.
pub const BIAS: &str = "bias";

impl LinearMap {
    /// The sources of the residual stream before `layer` at a position. A head adds its mixed values through its output
    /// weights and an MLP what it adds to the stream, its biases included; `bias`, the last, is what else attention
    /// layers add. Under a norm that comes after a sublayer, its divisor is that of the run.
    ///
    /// # Errors
    /// Interruption.
    pub fn sources(&self, layer: usize, position: i64) -> Result<Sources> {
        let (mut labels, mut vectors) = (vec!["embed".to_owned()], Vec::new());
        let row = |table: &Tensor| table.f_narrow(0, position, 1);
        match &self.frozen().positions {
            None => vectors.push(row(self.embeddings())?),
            Some(positions) => {
                labels.push("pos_embed".to_owned());
                vectors.push(row(&self.embeddings().f_sub(positions)?)?);
                vectors.push(row(positions)?);
            }
        }
        let rows = self.index(&[position])?;
        let at = At::Rows(&rows);
        let mut bias = row(self.embeddings())?.f_zeros_like()?;
        for index in 0..layer {
            interrupt::check()?;
            let part = self.layer(index);
            let x = self.residual(index);
            let values = part.values(x, At::Prompt, true)?.f_transpose(0, 1)?;
            let pattern = part.frozen().pattern.f_narrow(1, position, 1)?;
            let mixed = pattern.f_matmul(&values)?.f_squeeze_dim(1)?;
            let heads = mixed.size()[0];
            // One row per head, with the mixed values of that head only.
            let alone = mixed.f_unsqueeze(1)?.f_mul(&self.identity(heads)?.f_unsqueeze(-1)?)?;
            let added = part.attention_out(&alone, at, false)?;
            let attention = part.attention_out(&mixed.f_unsqueeze(0)?, at, true)?;
            bias = bias.f_add(&part.attention_out(&mixed.f_zeros_like()?.f_unsqueeze(0)?, at, true)?)?;
            labels.extend((0..heads).map(|head| format!("L{index}H{head}")));
            vectors.push(added);
            if part.has_mlp() {
                let before = row(x)?;
                let input = if part.is_parallel() { before } else { before.f_add(&attention)? };
                labels.push(format!("{index}_mlp_out"));
                vectors.push(part.mlp_out(&input, at, true)?);
            }
        }
        if !self.frozen().intervened.is_empty() {
            let mut put_in = bias.f_zeros_like()?;
            for (_, change) in self.put_in()?.iter().filter(|(node, _)| *node <= layer) {
                put_in = put_in.f_add(&change.f_select(0, 0)?.f_narrow(0, position, 1)?)?;
            }
            labels.push("intervention".to_owned());
            vectors.push(put_in);
        }
        labels.push(BIAS.to_owned());
        vectors.push(bias);
        Ok(Sources { labels, vectors: Tensor::f_cat(&vectors, 0)? })
    }

    fn identity(&self, size: i64) -> Result<Tensor> {
        let decoder = self.decoder();
        Ok(Tensor::f_eye(size, (decoder.kind, decoder.output_device()))?)
    }
}
