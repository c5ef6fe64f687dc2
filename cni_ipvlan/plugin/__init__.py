"""ipvlan: what each verb does, and the steps it is made of."""
