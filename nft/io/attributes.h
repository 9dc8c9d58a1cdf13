#pragma once

#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Reads netlink attributes that the kernel wrote: a list is what lies between two places, and a list
 * that makes no sense ends where it stops to. Nothing is copied; a reader lives as long as its message.
 */
struct attributes {
	const uint8_t *at;
	size_t left;
};

/* The next one; NULL at the end, and where the words make no sense. */
static inline const struct nlattr *attributes_next(struct attributes *list)
{
	const struct nlattr *attribute = (const void *)list->at;
	size_t step;

	if (list->left < NLA_HDRLEN || attribute->nla_len < NLA_HDRLEN ||
	    attribute->nla_len > list->left)
		return NULL;
	step = NLA_ALIGN((size_t)attribute->nla_len);
	if (step > list->left)
		step = list->left;
	list->at += step;
	list->left -= step;
	return attribute;
}

/* What is in it: attributes, or a value. Nothing in NULL. */
static inline struct attributes attributes_in(const struct nlattr *attribute)
{
	if (!attribute)
		return (struct attributes){ 0 };
	return (struct attributes){ (const uint8_t *)attribute + NLA_HDRLEN,
				    (size_t)attribute->nla_len - NLA_HDRLEN };
}

/* The first one of this type; NULL if there is none. */
static inline const struct nlattr *attributes_find(struct attributes list, uint16_t type)
{
	const struct nlattr *attribute;

	while ((attribute = attributes_next(&list)))
		if ((attribute->nla_type & NLA_TYPE_MASK) == type)
			return attribute;
	return NULL;
}

/* What is in the first one of this type; nothing if there is none. */
static inline struct attributes attributes_of(struct attributes list, uint16_t type)
{
	return attributes_in(attributes_find(list, type));
}
