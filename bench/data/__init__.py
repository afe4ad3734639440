"""Images, text and generated data, as the trainers read them."""
