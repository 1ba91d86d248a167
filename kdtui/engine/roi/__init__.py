"""Networks with a head for regions of interest: a picture and boxes in, one mask of three classes per box out."""
